"""The first batch that a producer writes to a partition travels alone.

A broker takes any sequence as the first that it sees of a producer in a partition. With several requests under way the
first could be refused for a moment, as while a partition that was just made gets its leader, and the second be taken;
when the first is then sent again, the broker answers that it has that already, and librdkafka takes it for written. From
the second batch on the broker refuses what is out of order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from kafka.partitioner.default import murmur2

from mesh_core.log.errors import LogUnavailable
from mesh_core.log.interface import Headers
from mesh_core.log.outstanding import PUBLISH_AGAIN

REMEMBERED_SECONDS = 12 * 3600.0
"""How long a partition counts as written to. Brokers forget a producer that was silent for a day."""
ANY = -1
_METADATA = 5.0

Answered = Callable[[Any, Any], None]
"""Is told the error, or None, and the record, as librdkafka tells them."""


class Sending(NamedTuple):
    """A record, and who is told what came of it."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: Headers
    partition: int
    """`ANY`: as its key says."""
    answered: Answered


class _Topic:
    """What a client has written to of a topic."""

    def __init__(self, partitions: int) -> None:
        self.lock = threading.Lock()
        self.partitions = partitions
        self.written: dict[int, float] = {}  # and until when that counts
        self.waiting: dict[int, deque[Sending]] = {}  # behind the first of a partition
        self.open_until = 0.0  # all partitions were written to
        self._turn = count()

    def partition_of(self, key: bytes | None) -> int:
        """Where librdkafka will put it, as far as is known; what has no key in each in turn."""
        number = next(self._turn) if key is None else murmur2(key) & 0x7FFFFFFF
        return number % self.partitions


class FirstAlone:
    """A librdkafka producer that is handed several records of a partition once it has written one. Safe for threads."""

    def __init__(self, kafka: Producer) -> None:
        self.kafka = kafka
        self._topics: dict[str, _Topic] = {}

    def produce(self, record: Sending) -> None:
        """Queue a record. Raises KafkaException, BufferError, or LogUnavailable where nobody tells of a new topic."""
        topic = self._topics.get(record.topic)
        if topic is None:
            topic = self._topics.setdefault(record.topic, _Topic(self._partitions(record.topic)))
        if time.monotonic() < topic.open_until:
            self._queue(record, record.answered)
            return
        partition = record.partition if record.partition != ANY else topic.partition_of(record.key)
        if record.key is None:
            record = record._replace(partition=partition)
        with topic.lock:
            if partition in topic.waiting:
                topic.waiting[partition].append(record)
            elif time.monotonic() < topic.written.get(partition, 0.0):
                self._queue(record, record.answered)
            else:
                self._first(topic, record, partition, deque())

    def knows(self, topic: str) -> bool:
        """Whether `produce` need not ask for the topic's partitions."""
        return topic in self._topics

    def forget(self, topic: str) -> None:
        """Something of the topic was not written: whatever comes next of a partition travels alone again."""
        if (known := self._topics.get(topic)) is not None:
            with known.lock:
                known.written.clear()
                known.open_until = 0.0

    def _first(self, topic: _Topic, record: Sending, partition: int, behind: deque[Sending]) -> None:
        def answered(error: Any, message: Any) -> None:
            record.answered(error, message)
            with topic.lock:
                failed = self._go_on(topic, partition, error)
            for other, why in failed:
                other.answered(why, message)

        self._queue(record, answered)
        topic.waiting[partition] = behind

    def _go_on(self, topic: _Topic, partition: int, error: Any) -> list[tuple[Sending, Any]]:
        """The first was answered: what waits behind it follows, alone where it was too large, or fails as it did.

        Answers those that fail, with why.
        """
        waiting = topic.waiting.pop(partition)
        if error is not None and error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            return [(record, error) for record in waiting]
        if error is None:
            topic.written[partition] = time.monotonic() + REMEMBERED_SECONDS
        while waiting and partition not in topic.waiting:
            record = waiting.popleft()
            try:
                if error is None:
                    self._queue(record, record.answered)
                else:
                    self._first(topic, record, partition, waiting)
            except (KafkaException, BufferError) as raised:
                # With those behind it, or these would be written before it.
                full = isinstance(raised, BufferError)
                why = KafkaError(KafkaError._QUEUE_FULL) if full else raised.args[0]
                return [(each, why) for each in (record, *waiting)]
        # Last, for whoever finds it open hands over at once.
        if len(topic.written) >= topic.partitions:
            topic.open_until = min(topic.written.values())
        return []

    def _queue(self, record: Sending, answered: Answered) -> None:
        self.kafka.produce(
            record.topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            partition=record.partition,
            timestamp=record.timestamp_ms or 0,
            on_delivery=answered,
        )

    def _partitions(self, topic: str) -> int:
        """How many partitions a topic has, once there is news of it. Raises KafkaException, LogUnavailable."""
        until = time.monotonic() + _METADATA
        while True:
            try:
                found = self.kafka.list_topics(topic, timeout=_METADATA).topics[topic]
            except KafkaException as error:
                raise LogUnavailable(
                    f"Kafka does not tell of topic {topic}: {error}", remedy=PUBLISH_AGAIN
                ) from error
            if found.error is None:
                return len(found.partitions)
            if time.monotonic() > until:
                raise KafkaException(found.error)
            time.sleep(0.05)
