"""What of the log a build has to read, and whether it is all there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.guard import topic_problem
from mesh_core.log.interface import Driver, TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.store.checkpoints import Checkpoint


@dataclass(frozen=True)
class History:
    """Where the log of each partition begins, and where a build should get to before it looks again."""

    begins: Mapping[TopicPartition, int]
    wanted: Mapping[TopicPartition, int]
    cut: Mapping[TopicPartition, int]
    """First offsets of partitions that have lost their beginning."""
    gone: Collection[str] = ()
    """Topics that do not exist any more, though records of them are applied."""

    @property
    def total(self) -> int:
        """How many records there are to read, aborted ones included."""
        return sum(end - self.begins[partition] for partition, end in self.wanted.items())


def history(
    driver: Driver,
    live: Mapping[TopicPartition, Checkpoint],
    facts: Mapping[str, TopicFacts],
    unread: Collection[str],
) -> History:
    """What to read of the topics of these live checkpoints: as far as they are, or to the end of `unread` topics.

    Raises DeployRefused where the log of a topic is not the one that was read; LogUnavailable while Kafka is down.
    """
    gone = {p.topic for p, row in live.items() if row.next_offset and p.topic not in facts}
    there = [p for p in live if p.topic in facts and p.partition < facts[p.topic].partitions]
    consumer = driver.consumer(None)
    try:
        starts, ends = consumer.beginning_offsets(there), consumer.end_offsets(there)
    finally:
        consumer.close()
    for topic in sorted({partition.topic for partition in live} - set(unread) - gone):
        rows = [checkpoint for partition, checkpoint in live.items() if partition.topic == topic]
        if any(row.next_offset for row in rows) and (
            problem := topic_problem(topic, facts.get(topic), rows, starts, ends)
        ):
            raise DeployRefused(
                f"What reads {topic} cannot be built: {problem}",
                remedy="Restore the topic, or start anew with mesh stack reset.",
            )
    wanted = {p: ends[p] if p.topic in unread else live[p].next_offset for p in there}
    begins = {p: min(starts[p], end) for p, end in wanted.items()}
    cut = {p: starts[p] for p, end in wanted.items() if starts[p] > 0 and end > 0}
    return History(begins, {p: end for p, end in wanted.items() if end > begins[p]}, cut, sorted(gone))
