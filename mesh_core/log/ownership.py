"""Which partitions a consumer owns, and where it stands in each: the same for every client.

A client may report a rebalance on a thread of its own (kafka-python: its IO thread, which must not be held
up). So reports are only queued here, and the listener is asked within `poll`, on the thread that polls. A
partition is read only once the listener has said where to start. One that no report names stays as it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import Literal

from mesh_core.log.errors import LogError
from mesh_core.log.interface import AssignmentListener
from mesh_core.log.position import TopicPartition

Change = Literal["assigned", "revoked", "lost"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

_logger = logging.getLogger(__name__)


class Ownership:
    """The partitions of one consumer: owned, waiting for a start, positioned, paused."""

    def __init__(self, listener: AssignmentListener | None = None) -> None:
        """Without a listener the partitions are assigned by hand, and `positions` is set by the consumer."""
        self.listener = listener
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.error: str | None = None
        self._reports: deque[tuple[Change, frozenset[TopicPartition]]] = deque()
        self._lock = threading.Lock()
        self._waiting: set[TopicPartition] = set()
        self._pause = 0.0
        self._retry_at = 0.0

    def report(self, change: Change, partitions: Collection[TopicPartition]) -> None:
        """Note what the client says of the group; may be called by any thread."""
        with self._lock:
            self._reports.append((change, frozenset(partitions)))

    def disturbed(self) -> set[TopicPartition]:
        """Partitions with reports that `settle` has not dealt with: what was read of them is void."""
        with self._lock:
            return {part for _, partitions in self._reports for part in partitions}

    def settle(self) -> dict[TopicPartition, int]:
        """Deal with the reports; answer the partitions that can be read now, each with its start.

        An exception of the listener's `revoked` or `lost` is raised; after one of `assigned` the partitions
        wait, `error` says why, and a later call asks again.
        """
        while report := self._next_report():
            change, partitions = report
            if change == "assigned":
                self._waiting |= partitions
                self._pause = self._retry_at = 0.0
                continue
            for part in partitions:
                self.positions.pop(part, None)
            self._waiting -= partitions
            self.paused -= partitions
            if self.listener and partitions:
                (self.listener.revoked if change == "revoked" else self.listener.lost)(partitions)
        if self.listener and self._waiting and time.monotonic() >= self._retry_at:
            return self._ask(self.listener)
        return {}

    def _next_report(self) -> tuple[Change, frozenset[TopicPartition]] | None:
        with self._lock:
            return self._reports.popleft() if self._reports else None

    def _ask(self, listener: AssignmentListener) -> dict[TopicPartition, int]:
        waiting = frozenset(self._waiting)
        try:
            answer = listener.assigned(waiting)
            if missing := waiting - answer.keys():
                raise LogError(f"No start was given for {', '.join(map(str, sorted(missing)))}.")
        except Exception as error:
            self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._retry_at = time.monotonic() + self._pause
            self.error = f"Partitions are not read, since their start is unknown: {error}"
            _logger.warning(
                "no start for assigned partitions; asking again in %.1f s", self._pause, exc_info=True
            )
            return {}
        start = {part: answer[part] for part in waiting}
        self._waiting.clear()
        self._pause = 0.0
        self.error = None
        self.positions.update(start)
        return start
