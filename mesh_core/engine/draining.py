"""Draining the fan-out queue: a projector does a little of it whenever it is free.

Each step recomputes a bounded chunk of roots in a transaction of its own, which holds nothing but the view's lock and
the queue's rows. Live batches go first: while records come in, draining gets only a part of the time. Projectors that
drain at the same time keep to different views; one that dies leaves the queue as of its last commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from mesh_core.engine.session import Session
from mesh_core.store import versions
from mesh_core.store.fan_out import Listed, pending_nodes
from mesh_core.store.view_writes import ViewVersion
from mesh_core.telemetry import metrics, stage

CHUNK = 2_000
"""Roots that are recomputed in one transaction, so that batches wait for the view's lock only so long."""
LISTED = 100_000
"""Roots that are listed at once: to find the first of them, all of a key's roots are read."""
SLICE_SECONDS = 0.1
"""How long a turn goes on, a step being the least."""
SHARE = 0.25
"""The part of the time that draining takes while records come in."""
LOOK_SECONDS = 1.0
CLAIM_SPACE = (
    0x66616E6F  # "fano": the first half of the session lock of whoever drains a view; the other is its id
)


class Draining:
    """One projector's part in it: the view that it has claimed, and the roots that it has listed of it."""

    def __init__(self, session: Session, chunk: int = CHUNK, listed: int = LISTED) -> None:
        self._session, self._chunk, self._listed_at_once = session, chunk, listed
        self._connection: psycopg.Connection[Any] | None = None
        self._view: ViewVersion | None = None
        self._claimed = False
        self._listed: Sequence[Listed] = ()
        self._last = (0, "")
        self._next_look = self._next_turn = 0.0
        self.busy = False
        """Whether there was something that we could do when we last looked."""

    def is_due(self, *, idle: bool) -> bool:
        """Whether it is time for a turn; `idle` says that no record is waiting."""
        now = time.monotonic()
        return (idle and self.busy) or now >= (self._next_turn if self.busy else self._next_look)

    def turn(self, *, idle: bool) -> None:
        """Drain for a moment. Raises psycopg errors; what was not committed is still queued."""
        now = time.monotonic()
        self.busy = self.step()
        while self.busy and time.monotonic() < now + SLICE_SECONDS:
            self.busy = self.step()
        if self._claimed and not idle:
            self._release()  # another one may be free
        done = time.monotonic()
        self._next_turn, self._next_look = done + (done - now) * (1 / SHARE - 1), done + LOOK_SECONDS

    def finish(self) -> None:
        """Drain all that is queued, together with whoever else is at it. Raises psycopg errors."""
        while True:
            if not self.step():
                ids = {view.id for view in self._session.applier.plan.views}
                with self._session.connected().cursor() as cursor:
                    if not any(id_ in ids for id_, _ in pending_nodes(cursor)):
                        return
                time.sleep(SLICE_SECONDS)

    def step(self) -> bool:
        """Recompute one chunk; False if there is nothing that we could do now. Raises psycopg errors."""
        views = {view.id: view for view in self._session.applier.plan.views}
        connection = self._session.connected()
        if connection is not self._connection:  # claims went with the one before
            self._connection, self._view, self._claimed, self._listed = connection, None, False, ()
        if self._view is not None and views.get(self._view.id) is not self._view:
            self._release()
            self._view, self._listed = None, ()
        with connection.cursor() as cursor:
            view = self._claim(cursor, views.values())
            if view is None:
                return False
            with stage("drain"), connection.transaction():
                if not view.try_lock(cursor):
                    return False
                if not versions.is_known(cursor, view.id):  # pruned meanwhile
                    self._listed = ()
                    return False
                left = view.drain_fan_out(cursor, self._listed, self._chunk)
                view.scratch.empty(cursor)
            self._listed = left
            return True

    def _claim(self, cursor: psycopg.Cursor[Any], views: Iterable[ViewVersion]) -> ViewVersion | None:
        """The view that we go on with; None if nothing is queued, or others are at all of it."""
        if self._listed and self._view is not None:
            if self._claimed or self._try(cursor, self._view):
                return self._view
            self._listed = ()  # another goes on with it
        self._release()
        known = {view.id: view for view in views}
        nodes = [node for node in pending_nodes(cursor) if node[0] in known]
        metrics.FAN_OUTS.set(len(nodes))
        # In turn, so that none waits for the largest.
        for id_, name in sorted(nodes, key=lambda node: (node <= self._last, node)):
            view = known[id_]
            if self._try(cursor, view):
                self._view, self._last = view, (id_, name)
                self._listed = view.fan_out.upcoming(cursor, name, self._listed_at_once)
                if self._listed:
                    return view
                self._release()
        return None

    def _try(self, cursor: psycopg.Cursor[Any], view: ViewVersion) -> bool:
        self._view = view
        row = cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (CLAIM_SPACE, view.id)).fetchone()
        self._claimed = bool(row and row[0])
        return self._claimed

    def _release(self) -> None:
        if self._claimed and self._view is not None and self._connection is not None:
            self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", (CLAIM_SPACE, self._view.id))
        self._claimed = False


__all__ = ["CHUNK", "Draining"]
