"""A log that plays a history from memory, for builds: just enough of a driver to assign and poll."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mesh_core.log.interface import Chunk
from mesh_core.log.lifetime import Closing
from mesh_core.log.position import TopicPartition
from tests.engine.domain import PARTITIONS
from tests.engine.histories import History, chunk_of


class PlayedLog(Closing):
    """Driver and consumer in one. A poll returns at most `records` of one partition."""

    last_error = None

    def __init__(self, history: History, records: int = 5) -> None:
        self._history, self._records = history, records
        self._standing: dict[TopicPartition, int] = {}

    def consumer(self, group: str | None = None) -> PlayedLog:
        return PlayedLog(self._history, self._records)

    def assign(self, standing: Mapping[TopicPartition, int]) -> None:
        self._standing = dict(standing)

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        for partition, at in self._standing.items():
            records = self._history.of(partition)
            first = next((n for n, record in enumerate(records) if record.offset >= at), len(records))
            if at < self._history.ends.get(partition, 0):
                chunk = chunk_of(self._history, partition, first, first + self._records)
                self._standing[partition] = chunk.next_offset
                return [chunk]
        return []

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self._history.ends.get(partition, 0) for partition in partitions}

    def close(self) -> None:
        """Nothing is open."""


EMPTY = History(
    (), {TopicPartition(topic, n): 0 for topic, count in PARTITIONS.items() for n in range(count)}
)
