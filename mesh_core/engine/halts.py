"""Halts: a topic that cannot be read on without losing or doubling something is not read; all else goes on."""

from __future__ import annotations

from collections.abc import Collection

from mesh_core.engine.session import Session
from mesh_core.engine.standing import Standing, seek
from mesh_core.log.interface import Consumer
from mesh_core.log.position import TopicPartition
from mesh_core.store import checkpoints
from mesh_core.telemetry import get_logger, metrics

log = get_logger(__name__)


class Halts:
    """Begins and ends halts: in the checkpoints, for all to see, in the consumer, and in the metrics."""

    def __init__(self, consumer: Consumer, session: Session, standing: Standing) -> None:
        self._consumer, self._session, self._standing = consumer, session, standing
        self._shown: set[str] = set()

    def halt(self, topic: str, reason: str, *, pause: bool = True) -> None:
        """Stop reading a topic and say so. Without `pause` where its partitions are still being assigned."""
        checkpoints.halt(self._session.connected(), topic, reason)
        if self._standing.halted.get(topic) != reason:
            log.error("halted", topic=topic, reason=reason)
        self._standing.halted[topic] = reason
        self.show()
        if pause:
            self._consumer.pause(self._standing.of_topic(topic))

    def lift(self, topic: str, partitions: Collection[TopicPartition]) -> None:
        """End the halt of a topic found in order, for everybody; `partitions` are all that it has.

        Its partitions are only being assigned to us, so there is nothing to resume in the consumer.
        """
        checkpoints.resume(self._session.connected(), partitions)
        self._standing.halted.pop(topic, None)

    def go_on(self, topic: str) -> None:
        """Read a topic again, from our positions: another projector found it in order."""
        del self._standing.halted[topic]
        self.show()
        mine = self._standing.of_topic(topic)
        seek(self._consumer, mine)
        self._consumer.resume(mine)
        log.info("goes on", topic=topic)

    def pause_again(self) -> None:
        """Pause all that is halted: a rebalance may have forgotten what was paused."""
        for topic in self._standing.halted:
            self._consumer.pause(self._standing.of_topic(topic))

    def show(self) -> None:
        """Set the metric of halted partitions, after a change of halts or of what is owned."""
        halted = set(self._standing.halted)
        for topic in halted | self._shown:
            metrics.HALTED.labels(topic).set(len(self._standing.of_topic(topic)) if topic in halted else 0)
        self._shown = halted
