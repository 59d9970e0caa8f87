"""Reads given stretches of the log outside any group, for builds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.intake import Batch, Intake
from mesh_core.log.interface import Chunk, Consumer
from mesh_core.log.position import TopicPartition

STALL_SECONDS = 30.0
"""How long a build waits for a record that must be in the log; others may be waiting for it meanwhile."""
POLL_RECORDS = 20_000


class Reader:
    """Batches of assigned partitions, each up to exactly a wanted offset."""

    def __init__(self, consumer: Consumer, intake: Intake) -> None:
        self._consumer, self._intake = consumer, intake

    def assign(self, standing: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._consumer.assign(standing)

    def batches(
        self, standing: Mapping[TopicPartition, int], wanted: Mapping[TopicPartition, int]
    ) -> list[Batch]:
        """What the next poll gives, at least one batch. Raises DeployRefused after STALL_SECONDS without any."""
        deadline = time.monotonic() + STALL_SECONDS
        while True:
            chunks = self._consumer.poll(POLL_RECORDS, 1.0)
            batches = [
                self._cut(chunk, wanted[chunk.partition])
                for chunk in chunks
                if chunk.partition in standing and standing[chunk.partition] < wanted[chunk.partition]
            ]
            if batches:
                return batches
            if time.monotonic() > deadline:
                raise DeployRefused(
                    f"The log gave nothing for {STALL_SECONDS:g} s, though records are missing: "
                    f"{', '.join(_missing(standing, wanted))}. {self._consumer.last_error or ''}".strip(),
                    remedy="See that Kafka is well, then deploy again; what serves is untouched.",
                )

    def _cut(self, chunk: Chunk, wanted: int) -> Batch:
        batch = self._intake.batch(chunk)
        if chunk.next_offset > wanted:
            count = sum(offset < wanted for offset in chunk.offsets)
            batch = batch.part(0, count) if count < len(chunk.offsets) else batch
            batch.chunk.next_offset = wanted
        return batch


def is_behind(standing: Mapping[TopicPartition, int], wanted: Mapping[TopicPartition, int]) -> bool:
    """Whether any partition has not been read up to its wanted offset."""
    return any(offset < wanted[partition] for partition, offset in standing.items())


def _missing(standing: Mapping[TopicPartition, int], wanted: Mapping[TopicPartition, int]) -> Iterable[str]:
    for partition, offset in sorted(standing.items()):
        if offset < wanted[partition]:
            yield f"{partition} is at {offset} of {wanted[partition]}"
