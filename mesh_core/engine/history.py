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

    @property
    def total(self) -> int:
        """How many records there are to read, aborted ones included."""
        return sum(end - self.begins[partition] for partition, end in self.wanted.items())


def history(
    driver: Driver,
    live: Mapping[TopicPartition, Checkpoint],
    facts: Mapping[str, TopicFacts],
    unread: Collection[str],
    *,
    accept_truncated: bool = False,
) -> History:
    """What to read of the topics of these live checkpoints: as far as they are, or to the end of `unread` topics.

    Raises DeployRefused where the log no longer has its beginning (unless that is accepted) or is not the one that was
    read; LogUnavailable while Kafka is down.
    """
    there = [p for p in live if p.topic in facts and p.partition < facts[p.topic].partitions]
    consumer = driver.consumer(None)
    try:
        starts, ends = consumer.beginning_offsets(there), consumer.end_offsets(there)
    finally:
        consumer.close()
    for topic in sorted({partition.topic for partition in live} - set(unread)):
        rows = [checkpoint for partition, checkpoint in live.items() if partition.topic == topic]
        if any(row.next_offset for row in rows) and (
            problem := topic_problem(topic, facts.get(topic), rows, starts, ends)
        ):
            raise DeployRefused(
                f"What reads {topic} cannot be built: {problem}",
                remedy="Restore the topic, or start anew with mesh stack reset.",
            )
    wanted = {p: ends[p] if p.topic in unread else live[p].next_offset for p in there}
    cut = sorted((p, starts[p]) for p, end in wanted.items() if starts[p] > 0 and end > 0)
    if cut and not accept_truncated:
        said = ", ".join(f"{partition} starts at {offset}" for partition, offset in cut)
        raise DeployRefused(
            f"The log no longer has its beginning ({said}), so rows that it made would be missing.",
            remedy="Publish the missing history again into a new topic; or build from what is left: "
            "mesh deploy --accept-truncated.",
        )
    begins = {p: min(starts[p], end) for p, end in wanted.items()}
    return History(begins, {p: end for p, end in wanted.items() if end > begins[p]})
