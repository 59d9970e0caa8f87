"""Where a projector stands: the partitions it owns, how far it is in each, and the topics it must not read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mesh_core.log.interface import Consumer
from mesh_core.log.position import Position, TopicPartition
from mesh_core.store.checkpoints import Checkpoint


class Standing:
    """What a projector knows of its partitions between two looks at their checkpoints. Asks nobody.

    `positions` are the next offsets of the owned partitions, `fences` what they were taken over with, `halted`
    the topics that are not read and why.
    """

    def __init__(self) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self.fences: dict[TopicPartition, int] = {}
        self.halted: dict[str, str] = {}

    def take(self, rows: Mapping[TopicPartition, Checkpoint]) -> None:
        """Own these from now on, as their checkpoints say after they were taken over."""
        for partition, row in rows.items():
            self.positions[partition], self.fences[partition] = row.next_offset, row.fence

    def release(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of these."""
        for partition in partitions:
            self.positions.pop(partition, None)
            self.fences.pop(partition, None)

    def taken_by_others(self, rows: Mapping[TopicPartition, Checkpoint]) -> list[TopicPartition]:
        """Partitions whose checkpoints have another fence than ours."""
        return [p for p, fence in self.fences.items() if p not in rows or rows[p].fence != fence]

    def reposition(self, rows: Mapping[TopicPartition, Checkpoint]) -> None:
        """Stand where the checkpoints of all that is owned say."""
        for partition in self.positions:
            self.positions[partition] = rows[partition].next_offset

    def advance(self, positions: Mapping[TopicPartition, int]) -> None:
        """These were committed; what is not owned, as the target of a decision may be, is left out."""
        for partition, offset in positions.items():
            if partition in self.positions:
                self.positions[partition] = max(offset, self.positions[partition])

    def of_topic(self, topic: str) -> dict[TopicPartition, int]:
        """The owned partitions of a topic, with their positions."""
        return {p: offset for p, offset in self.positions.items() if p.topic == topic}

    def readable(self) -> dict[TopicPartition, int]:
        """The owned partitions that are not halted, with their positions."""
        return {p: offset for p, offset in self.positions.items() if p.topic not in self.halted}

    def reached(self, until: Position) -> bool:
        """Whether nothing before `until` is left to be applied; of a halted topic nothing will be."""
        return all(
            self.positions.get(partition, -1) >= offset or partition.topic in self.halted
            for partition, offset in until.offsets.items()
        )


def seek(consumer: Consumer, positions: Mapping[TopicPartition, int]) -> None:
    """Read on from these positions, wherever the consumer has got to; partitions it does not have are left out."""
    owned = consumer.positions().offsets
    for partition, offset in positions.items():
        if partition in owned:
            consumer.seek(partition, offset)
