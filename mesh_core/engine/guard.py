"""Checks that a topic is still the one that its checkpoints speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mesh_core.log.interface import TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.store.checkpoints import Checkpoint

BUILD_ANEW = "Start anew with mesh stack reset, or restore the topic and restart the projector."


def topic_problem(
    topic: str,
    facts: TopicFacts | None,
    rows: Iterable[Checkpoint],
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> str | None:
    """Why the topic cannot be read on from its checkpoints without losing or doubling events, or None.

    `starts` and `ends` are offsets that the log has of its partitions.
    """
    if facts is None:
        return f"The topic {topic} does not exist any more."
    for row in sorted(rows, key=lambda row: row.partition):
        if row.topic_id != facts.topic_id:
            return f"The topic {topic} was re-created: its id is {facts.topic_id}, the checkpoints are of {row.topic_id}."
        if row.partitions != facts.partitions:
            return (
                f"The topic {topic} has {facts.partitions} partitions, but {row.partitions} when it was deployed, "
                "so keys have moved between partitions."
            )
        start = starts.get(row.partition, 0)
        if start > row.next_offset:
            return (
                f"The log of {row.partition} starts at offset {start}, but only records before {row.next_offset} "
                f"are applied: {start - row.next_offset} records are gone."
            )
        end = ends.get(row.partition)
        if end is not None and end < row.next_offset:
            return (
                f"The log of {row.partition} ends at offset {end}, before the checkpoint {row.next_offset}: "
                "records that were applied are gone."
            )
    return None
