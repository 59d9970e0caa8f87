"""Following the group: what it gives a projector, what it takes away, and what another projector took."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mesh_core.engine.gathering import Gatherer
from mesh_core.engine.halts import Halts
from mesh_core.engine.inspection import Inspection
from mesh_core.engine.session import Session
from mesh_core.engine.standing import Standing
from mesh_core.log.interface import Consumer
from mesh_core.log.position import TopicPartition
from mesh_core.store import checkpoints
from mesh_core.telemetry import get_logger, metrics

log = get_logger(__name__)


class Assignment:
    """An AssignmentListener that keeps the standing, and with it the fences in Postgres, in step with the group."""

    def __init__(
        self,
        consumer: Consumer,
        session: Session,
        standing: Standing,
        halts: Halts,
        inspection: Inspection,
        gatherer: Gatherer,
    ) -> None:
        self._consumer, self._session, self._standing = consumer, session, standing
        self._halts, self._inspection, self._gatherer = halts, inspection, gatherer

    def assigned(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Own these partitions from now on; where to start each. Halts topics that are not what they were.

        A start is the checkpoint; where a halted topic no longer has that, its nearest offset, of which nothing
        is read.
        """
        if not partitions:
            return {}
        found = checkpoints.take_over(self._session.connected(), partitions)
        extent = self._inspection.of_assigned(partitions, found)
        self._gatherer.forget(partitions)
        self._standing.take(found)
        self._halts.show()
        _tell("assigned", partitions)
        return {p: extent.nearest(p, self._standing.positions.get(p)) for p in partitions}

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of what the group gave to another."""
        self._release(partitions, "revoked")

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of what the group took away without asking."""
        self._release(partitions, "lost")

    def reposition(self) -> None:
        """Ask the checkpoints where we stand; let go of partitions that another projector took."""
        topics = {partition.topic for partition in self._standing.positions}
        rows = checkpoints.read(self._session.connected(), topics)
        taken = self._standing.taken_by_others(rows)
        if taken:
            self._consumer.pause(taken)
            self._release(taken, "fenced")
        self._standing.reposition(rows)

    def _release(self, partitions: Collection[TopicPartition], change: str) -> None:
        self._session.settle()  # whoever gets them next should find what we began
        self._gatherer.forget(partitions)
        self._standing.release(partitions)
        self._halts.show()
        _tell(change, partitions)


def _tell(change: str, partitions: Collection[TopicPartition]) -> None:
    metrics.REBALANCES.labels(change).inc()
    log.info(change, partitions=[str(partition) for partition in sorted(partitions)])
