"""How straight scripts read topics: all partitions, from the start, in batches as large as there is to read."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

TRANSACTION = int(os.environ.get("BENCH_FLOOR_TRANSACTION", 20_000))
"""The most events in one transaction, where a script does not say otherwise."""
_POLL = 10_000
_FEW = 500
"""A poll that finds fewer records has caught up: what was read is written at once, so that it is fresh."""


@dataclass
class Batch:
    """Values by topic, in order; and the next offset by topic and partition."""

    values: dict[str, list[bytes]] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    size: int = 0

    def add(self, topic: str, values: list[bytes]) -> None:
        """More of a topic."""
        self.values.setdefault(topic, []).extend(values)
        self.size += len(values)


Ends = dict[tuple[str, int], int]
Consume = Callable[[Sequence[str], int, bool], Iterator[Batch]]
"""(topics, most events of a batch, whether to stop at what is the end now) to batches."""


def consumer() -> Consume:
    """By the client that `MESH_KAFKA_DRIVER` names, of the broker that `MESH_KAFKA_BOOTSTRAP_SERVERS` names."""
    bootstrap = os.environ["MESH_KAFKA_BOOTSTRAP_SERVERS"]
    if os.environ["MESH_KAFKA_DRIVER"] == "kafka-python":
        importlib.import_module("kafka")  # before anything is measured
        by = kafka_python
    else:
        importlib.import_module("confluent_kafka")
        by = confluent_kafka
    return lambda topics, most, stop: by(bootstrap, topics, most, stop)


def kafka_python(bootstrap: str, topics: Sequence[str], most: int, stop: bool) -> Iterator[Batch]:
    """Batches by kafka-python."""
    from kafka import KafkaConsumer, TopicPartition

    client = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=8 << 20,
        max_poll_records=_POLL,
    )
    parts = [TopicPartition(topic, part) for topic in topics for part in client.partitions_for_topic(topic)]
    client.assign(parts)
    client.seek_to_beginning()
    ends = {(part.topic, part.partition): end for part, end in client.end_offsets(parts).items()}

    def poll(batch: Batch) -> int:
        before = batch.size
        # A whole second is waited only where there is nothing at all.
        wait = 20 if batch.size else 1_000
        for part, records in client.poll(wait, max_records=min(_POLL, most - batch.size)).items():
            batch.add(part.topic, [record.value for record in records])
            batch.offsets[part.topic, part.partition] = records[-1].offset + 1
        return batch.size - before

    yield from _batches(poll, most, ends if stop else None)
    client.close()


def confluent_kafka(bootstrap: str, topics: Sequence[str], most: int, stop: bool) -> Iterator[Batch]:
    """Batches by confluent-kafka."""
    from confluent_kafka import Consumer, TopicPartition

    client: Any = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "floor",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
            # As much ahead as keeps it busy: more only takes memory. What is fetched at once is counted compressed.
            "fetch.max.bytes": 4 << 20,
            "max.partition.fetch.bytes": 1 << 20,
            "queued.min.messages": 100_000,
            "queued.max.messages.kbytes": 32 << 10,
            "fetch.queue.backoff.ms": 20,
        }
    )
    parts = [
        TopicPartition(topic, part, 0)
        for topic in topics
        for part in client.list_topics(topic, 10).topics[topic].partitions
    ]
    client.assign(parts)
    ends = {(p.topic, p.partition): client.get_watermark_offsets(p, 10)[1] for p in parts} if stop else None

    def poll(batch: Batch) -> int:
        wanted = min(_POLL, most - batch.size)
        if batch.size:
            messages = client.consume(wanted, 0.05)
        else:
            # `consume` waits until it has all that it was asked for: ask for one, then for what is there.
            messages = client.consume(1, 1.0)
            messages += client.consume(wanted - 1, 0) if messages and wanted > 1 else []
        if bad := [message.error() for message in messages if message.error()]:
            raise RuntimeError(str(bad[0]))
        by_topic: dict[str, list[bytes]] = {}
        for message in messages:
            by_topic.setdefault(message.topic(), []).append(message.value())
            batch.offsets[message.topic(), message.partition()] = message.offset() + 1
        for topic, values in by_topic.items():
            batch.add(topic, values)
        return len(messages)

    yield from _batches(poll, most, ends)
    client.close()


def _batches(poll: Callable[[Batch], int], most: int, ends: Ends | None) -> Iterator[Batch]:
    """What `poll` adds to a batch, until it is full or there is little more; for ever, or until `ends`."""
    left = None if ends is None else {part: end for part, end in ends.items() if end}
    while left is None or left:
        batch = Batch()
        while batch.size < most:
            found = poll(batch)
            if batch.size and found < _FEW and (left is None or not found):
                break
            if left is not None and all(batch.offsets.get(part, 0) >= end for part, end in left.items()):
                break
        if left is not None:
            left = {part: end for part, end in left.items() if batch.offsets.get(part, 0) < end}
        yield batch
