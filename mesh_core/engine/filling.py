"""Fills view versions from one snapshot of the entity tables, while projectors note what they touch meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import IsolationLevel

from mesh_core.engine.deploy_report import Progress
from mesh_core.engine.draining import CHUNK as FAN_OUT_CHUNK
from mesh_core.engine.draining import LISTED
from mesh_core.store import fan_out, tables, versions
from mesh_core.store.connections import connect
from mesh_core.store.versions import VersionRow
from mesh_core.store.view_writes import ViewVersion

CHUNK = 10_000
"""Queued roots that are recomputed in one transaction, so that projectors wait for the view's lock only so long."""


class Snapshot:
    """A second connection whose view of the data is fixed while the barrier is held.

    What is committed before the barrier is in it; whatever comes after, projectors queue.
    """

    def __init__(self, database_url: str) -> None:
        self.connection = connect(database_url, "mesh deploy: filling views")
        self.connection.autocommit = False
        self.connection.isolation_level = IsolationLevel.REPEATABLE_READ
        self.connection.execute("SELECT 1")

    def fill(
        self, views: Sequence[VersionRow], entities: Sequence[VersionRow], progress: Progress
    ) -> dict[str, int]:
        """Compute all rows of these views; how many rows each has."""
        plan = versions.plan_of(0, [*entities, *views])
        counts = {}
        with self.connection.cursor() as cursor:
            for view in plan.queued:
                progress(f"computing {view.model.name}")
                for source in view.sources.values():
                    tables.analyze_once(cursor, source.relation)
                counts[view.model.name] = view.fill(cursor)
                tables.add_key(self.connection, view.model, view.relation)
        self.connection.commit()
        return counts

    def close(self) -> None:
        """Let go of the snapshot."""
        self.connection.close()


def drain(connection: psycopg.Connection[Any], views: Sequence[ViewVersion]) -> None:
    """Recompute what was queued, in bounded transactions, until little is left."""
    for view in views:
        for statement in view.temporary_tables():
            connection.execute(statement)
        taken = CHUNK
        while taken >= CHUNK:
            with connection.transaction(), connection.cursor() as cursor:
                view.lock(cursor)
                taken = view.drain(cursor, CHUNK)
                view.scratch.empty(cursor)
        _drain_fan_out(connection, view)


def _drain_fan_out(connection: psycopg.Connection[Any], view: ViewVersion) -> None:
    """Recompute what the fan-out queue has now. What changes again meanwhile is left to the projectors.

    They drain it once the view has joined, as they do of any view, and until then it is stale. Waiting for a queue
    that is empty could be waiting for ever.
    """
    with connection.cursor() as cursor:
        first = fan_out.queued(cursor, view.id)
        while left := first & fan_out.queued(cursor, view.id):
            for name in {name for name, _, _ in left}:
                listed = view.fan_out.upcoming(cursor, name, LISTED)
                while listed:
                    with connection.transaction():
                        view.lock(cursor)
                        listed = view.drain_fan_out(cursor, listed, FAN_OUT_CHUNK)
                        view.scratch.empty(cursor)


def drain_rest(connection: psycopg.Connection[Any], views: Sequence[ViewVersion]) -> None:
    """Recompute all that is still queued, in the transaction that holds the barrier."""
    with connection.cursor() as cursor:
        for view in sorted(views, key=lambda view: view.id):
            view.lock(cursor)
            while True:
                taken = view.drain(cursor, CHUNK)
                view.scratch.empty(cursor)
                if taken == 0:
                    break
