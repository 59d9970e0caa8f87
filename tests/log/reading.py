"""What tests of reading and writing share."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import confluent_kafka

from mesh_core.log import Chunk, Consumer, TopicPartition

Record = tuple[TopicPartition, int, bytes | None]


@dataclass
class Starts:
    """A listener that starts at given offsets (else 0) and notes what it was told."""

    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)
    failures: int = 0
    assigned_calls: list[set[TopicPartition]] = field(default_factory=list)
    revoked_calls: list[set[TopicPartition]] = field(default_factory=list)
    lost_calls: list[set[TopicPartition]] = field(default_factory=list)

    def assigned(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.assigned_calls.append(set(partitions))
        if self.failures:
            self.failures -= 1
            raise ConnectionError("Postgres is away")
        return {part: self.offsets.get(part, 0) for part in partitions}

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.revoked_calls.append(set(partitions))

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self.lost_calls.append(set(partitions))


def records(chunks: Collection[Chunk]) -> list[Record]:
    for chunk in chunks:
        assert len(chunk.keys) == len(chunk.values) == len(chunk.offsets) == len(chunk.timestamps)
        assert len(chunk.headers) in (0, len(chunk.offsets))
        assert not chunk.offsets or chunk.next_offset > chunk.offsets[-1]
    return [
        (chunk.partition, offset, value)
        for chunk in chunks
        for offset, value in zip(chunk.offsets, chunk.values, strict=True)
    ]


def read_until(
    consumer: Consumer, enough: Callable[[list[Record]], bool], seconds: float = 20.0
) -> list[Record]:
    """All records read until it is enough; a failed test if that takes too long."""
    found: list[Record] = []
    deadline = time.monotonic() + seconds
    while not enough(found):
        assert time.monotonic() < deadline, f"only {len(found)} records: {found[:5]}; {consumer.last_error}"
        found += records(consumer.poll(10_000, 0.5))
    return found


def read(consumer: Consumer, count: int, seconds: float = 20.0) -> list[Record]:
    return read_until(consumer, lambda found: len(found) >= count, seconds)


def read_to(consumer: Consumer, end: Mapping[TopicPartition, int], seconds: float = 20.0) -> list[Record]:
    """All records read until the consumer's position is `end`."""
    return read_until(
        consumer, lambda _: {part: consumer.positions().offsets.get(part) for part in end} == end, seconds
    )


def transactional(bootstrap: str, name: str) -> confluent_kafka.Producer:
    """kafka-python cannot write transactions to a new broker; others who write to our topics can."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    producer.init_transactions()
    return producer


def read_till_error(consumer: Consumer, error: type[Exception]) -> tuple[list[Record], Exception]:
    """The records read before `error` came, and it."""
    found: list[Record] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            found += records(consumer.poll(10, 1))
        except error as raised:
            return found, raised
    raise AssertionError(f"no {error.__name__} came, but {found}")
