"""How much goes into one transaction: what is there when caught up, ever more while lagging."""

from __future__ import annotations

from collections.abc import Collection

from mesh_core.log.errors import OffsetOutOfRange
from mesh_core.log.interface import Chunk, Consumer
from mesh_core.log.position import TopicPartition

MAX_BYTES = 64 * 1024 * 1024
POLL_RECORDS = 10_000


class Gatherer:
    """Collects chunks up to a target that doubles while more is there than it takes, and falls back after."""

    def __init__(self, smallest: int, largest: int) -> None:
        self._smallest, self._largest = min(smallest, largest), largest
        self.target = self._smallest
        self._found: dict[TopicPartition, Chunk] = {}

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what was collected of these: a rebalance between two polls may let them start elsewhere."""
        for partition in partitions:
            self._found.pop(partition, None)

    def gather(self, consumer: Consumer, timeout: float) -> list[Chunk]:
        """At most about `target` records, one chunk a partition; waits up to `timeout` seconds for the first.

        Raises OffsetOutOfRange, and nothing that was polled is lost by it.
        """
        found = self._found = {}
        count = size = 0
        while count < self.target and size < MAX_BYTES:
            try:
                chunks = consumer.poll(min(POLL_RECORDS, self.target - count), 0.0 if found else timeout)
            except OffsetOutOfRange:
                if not found:
                    raise
                break  # the consumer has moved past what was found, so that comes first; the next poll raises again
            if not chunks:
                break
            for chunk in chunks:
                count += len(chunk.offsets)
                size += sum(len(value) for value in chunk.values if value is not None)
                known = found.get(chunk.partition)
                found[chunk.partition] = chunk if known is None else _joined(known, chunk)
        full = count >= self.target or size >= MAX_BYTES
        self.target = min(self._largest, self.target * 2) if full else max(self._smallest, count)
        return list(found.values())


def _joined(first: Chunk, second: Chunk) -> Chunk:
    headers = []
    if first.headers or second.headers:
        headers = [
            *(first.headers or [()] * len(first.offsets)),
            *(second.headers or [()] * len(second.offsets)),
        ]
    return Chunk(
        first.partition,
        first.keys + second.keys,
        first.values + second.values,
        first.offsets + second.offsets,
        first.timestamps + second.timestamps,
        headers,
        second.next_offset,
    )
