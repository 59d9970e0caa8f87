"""How far the read models are behind the log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from mesh_core.log import Driver, Position, TopicPartition

PATIENCE_SECONDS = 3.0


@dataclass(frozen=True)
class Lag:
    """Of one partition: records past the checkpoint, and the age of the oldest of them in seconds.

    `seconds` is 0 where there are none, and None where that record could not be read in time.
    """

    events: int
    seconds: float | None


def measure(driver: Driver, position: Position) -> dict[TopicPartition, Lag]:
    """The lag of each partition of `position`. Raises LogUnavailable."""
    with driver.consumer() as consumer:
        ends = consumer.end_offsets(sorted(position.offsets))
        behind = {p: offset for p, offset in Position(ends).minus(position).items() if offset}
        oldest: dict[TopicPartition, int] = {}
        if behind:
            starts = consumer.beginning_offsets(sorted(behind))
            consumer.assign({p: max(position.offsets[p], starts[p]) for p in behind})
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(oldest) < len(behind) and time.monotonic() < deadline:
                for chunk in consumer.poll(500, 0.2):
                    if chunk.timestamps:
                        oldest.setdefault(chunk.partition, chunk.timestamps[0])
                consumer.pause(oldest)
    return {p: Lag(behind.get(p, 0), _age(p, behind, oldest)) for p in ends}


def _age(
    partition: TopicPartition, behind: Mapping[TopicPartition, int], oldest: Mapping[TopicPartition, int]
) -> float | None:
    if partition not in behind:
        return 0.0
    stamp = oldest.get(partition)
    return None if stamp is None else max(0.0, round(time.time() - stamp / 1000, 3))
