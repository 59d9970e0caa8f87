"""Reading with confluent-kafka."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property, partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from mesh_core.log.config import KafkaConfig
from mesh_core.log.confluent.connection import admin, connection, earliest_offsets, latest_offsets, reach
from mesh_core.log.errors import LogError, LogUnavailable, OffsetOutOfRange
from mesh_core.log.interface import AssignmentListener, Chunk, Headers
from mesh_core.log.lifetime import Closing
from mesh_core.log.ownership import Change, Ownership
from mesh_core.log.position import Position, TopicPartition

_ANSWER = 5.0
_SLICE = 0.1
_JOINING_SLICE = 0.01
"""consume() waits on after an assignment that it was told of meanwhile: 0.1 s of the 0.3 before the first record."""
_BATCH = 10_000
_BUSY_ROUND = 500
"""A round with that many records is a sign of lag: another follows, for larger batches."""
_BUSY_WAIT = 0.02

_logger = logging.getLogger(__name__)


class ConfluentConsumer(Closing):
    """`mesh_core.log.Consumer` on confluent-kafka's Consumer."""

    def __init__(self, config: KafkaConfig, group: str | None, instance_id: str | None) -> None:
        """Connects. Raises LogUnavailable if no broker answers."""
        self._config, self._group = config, group
        self._error: str | None = None
        self._ownership = Ownership()
        self._out_of_range: dict[TopicPartition, int] = {}
        self._started: set[TopicPartition] = set()
        options = connection(config) | {
            "group.id": group or "flexmesh-no-group",
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            # The only word of a position that moved past aborted transactions and control records.
            "enable.partition.eof": True,
            "partition.assignment.strategy": "cooperative-sticky",
            "heartbeat.interval.ms": 1_000,
            "session.timeout.ms": 6_000,
            "max.poll.interval.ms": 60_000,
            "fetch.error.backoff.ms": 100,
            # Whoever assigns reads history: a fetch that waits at the end of some partitions would hold up the next ones.
            "fetch.wait.max.ms": 500 if group else 20,
            # What is read ahead is counted compressed: the defaults take 100 MB more, and a lagging projector gains nothing.
            "fetch.queue.backoff.ms": 5,
            "fetch.max.bytes": 8 << 20,
            "queued.max.messages.kbytes": 8 << 10,
            "queued.min.messages": 30_000,
            "error_cb": self._note,
        }
        if group and instance_id:
            options["group.instance.id"] = instance_id
        self._kafka = Consumer(options)
        try:
            reach(config, self._kafka)
        except LogUnavailable:
            self._kafka.close()
            raise

    def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        """See `Consumer.subscribe`."""
        self._ownership.listener = listener

        def assigned(kafka: Consumer, partitions: list[Any]) -> None:
            kafka.incremental_assign([])  # none yet: they would start at the committed hint
            self._ownership.report("assigned", _ours(partitions))

        def taken(change: Change, partitions: list[Any]) -> None:
            self._stop(_ours(partitions))
            self._ownership.report(change, _ours(partitions))

        self._kafka.subscribe(
            sorted(topics),
            on_assign=assigned,
            on_revoke=lambda _, partitions: taken("revoked", partitions),
            on_lost=lambda _, partitions: taken("lost", partitions),
        )

    def assign(self, start: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.assign`."""
        self._ownership = Ownership()
        self._ownership.positions.update(start)
        self._stop(self._started)
        self._start(start)

    def _start(self, start: Mapping[TopicPartition, int]) -> None:
        """Read these from there, whether they are read already or not: seek() fails while a start is under way."""
        if again := self._started & start.keys():
            self._stop(again)
        self._kafka.incremental_assign(
            [KafkaPartition(part.topic, part.partition, offset) for part, offset in start.items()]
        )
        self._started |= start.keys()
        for part in start:
            self._out_of_range.pop(part, None)
        if paused := self._ownership.paused & start.keys():
            self._kafka.pause(_theirs(paused))

    def _stop(self, partitions: Collection[TopicPartition]) -> None:
        self._kafka.incremental_unassign(_theirs(self._started.intersection(partitions)))
        self._started = self._started.difference(partitions)

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        """See `Consumer.poll`."""
        deadline = time.monotonic() + timeout
        records: list[Any] = []
        ends: dict[TopicPartition, int] = {}
        while True:
            if not records:
                if start := self._ownership.settle():
                    self._start(start)
                self._raise_out_of_range()
            left = deadline - time.monotonic()
            fresh = self._read(max_records - len(records), left, bool(records), ends)
            records += fresh
            if records:
                if len(fresh) < _BUSY_ROUND or len(records) >= max_records:
                    break
            elif left <= 0 or any(self._ownership.positions.get(part) != end for part, end in ends.items()):
                break
        return self._chunks(records, ends)

    def _read(
        self, max_records: int, left: float, has_some: bool, ends: dict[TopicPartition, int]
    ) -> list[Any]:
        if has_some:
            messages = self._kafka.consume(min(max_records, _BATCH), _BUSY_WAIT)
        else:
            # Asked for many, consume() waits for many: one first, then what came with it.
            longest = _SLICE if self._ownership.positions else _JOINING_SLICE
            messages = self._kafka.consume(1, max(0.0, min(left, longest)))
            if messages and max_records > 1:
                messages += self._kafka.consume(min(max_records - 1, _BATCH), 0)
        fresh = [message for message in messages if message.error() is None]
        if len(fresh) < len(messages):
            for message in messages:
                if (error := message.error()) is not None:
                    self._heed(error, message, ends)
        if fresh:
            self._error = None
        return fresh

    def _heed(self, error: Any, message: Any, ends: dict[TopicPartition, int]) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            ends[TopicPartition(message.topic(), message.partition())] = message.offset()
            self._error = None
        elif code == KafkaError._AUTO_OFFSET_RESET:
            part = TopicPartition(message.topic(), message.partition())
            self._out_of_range[part] = message.offset()
        elif error.fatal() or code in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        ):
            raise LogError(f"Kafka refused to be read: {error.str()}")
        else:
            self._note(error)

    def _note(self, error: Any) -> None:
        self._error = f"Kafka cannot be read just now: {error.str()}"

    def _raise_out_of_range(self) -> None:
        for part in self._out_of_range.keys() - self._ownership.paused:
            if part not in self._ownership.positions:
                del self._out_of_range[part]
                continue
            offset = self._ownership.positions[part]
            try:
                beginning, end = self.beginning_offsets([part])[part], self.end_offsets([part])[part]
            except LogUnavailable:
                raise OffsetOutOfRange(part, offset) from None
            raise OffsetOutOfRange(part, offset, beginning, end)

    def _chunks(self, records: list[Any], ends: dict[TopicPartition, int]) -> list[Chunk]:
        runs: dict[tuple[Any, Any], list[Any]] = defaultdict(list)
        topics = [record.topic() for record in records]
        for record, topic, partition in zip(
            records, topics, [record.partition() for record in records], strict=True
        ):
            runs[topic, partition].append(record)
        for part in ends:
            runs[part.topic, part.partition]  # a run of none still has a position to tell
        disturbed = self._ownership.disturbed()
        positions = self._ownership.positions
        chunks = []
        for (topic, partition), run in runs.items():
            part = TopicPartition(topic, partition)
            if part in disturbed or part not in positions:
                continue
            offsets = [record.offset() for record in run]
            next_offset = max(ends.get(part, 0), offsets[-1] + 1 if offsets else 0)
            if not run and next_offset == positions[part]:
                continue
            start, positions[part] = positions[part], next_offset
            chunks.append(
                Chunk(
                    partition=part,
                    keys=[record.key() for record in run],
                    values=[record.value() for record in run],
                    offsets=offsets,
                    timestamps=[record.timestamp()[1] for record in run],
                    headers=partial(_headers, run),
                    next_offset=next_offset,
                    start=start,
                )
            )
        return chunks

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See `Consumer.seek`."""
        if partition not in self._ownership.positions:
            raise LogError(f"{partition} is not read by this consumer.")
        self._ownership.positions[partition] = offset
        if partition in self._started:  # else it was taken away meanwhile, as the next poll will tell
            self._start({partition: offset})

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        owned = self._started.intersection(partitions)
        self._kafka.pause(_theirs(owned))
        self._ownership.paused.update(owned)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        stopped = self._ownership.paused.intersection(partitions)
        self._kafka.resume(_theirs(stopped))
        self._ownership.paused -= stopped

    def paused(self) -> set[TopicPartition]:
        """See `Consumer.paused`."""
        return set(self._ownership.paused)

    def positions(self) -> Position:
        """See `Consumer.positions`."""
        return Position(dict(self._ownership.positions))

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.beginning_offsets`."""
        return self._asked(earliest_offsets, partitions)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.end_offsets`."""
        return self._asked(latest_offsets, partitions)

    def _asked(self, question: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        try:
            answer: dict[TopicPartition, int] = question(self._admin, partitions)
        except KafkaException as error:
            names = ", ".join(sorted({part.topic for part in partitions}))
            raise LogUnavailable(f"Kafka did not answer for the offsets of {names}: {error}") from error
        return answer

    @cached_property
    def _admin(self) -> AdminClient:
        # On a connection of its own: the consumer's may be waiting half a second for a fetch of partitions that are
        # read to their end, and would answer one question about one partition after each.
        return admin(self._config)

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """See `Consumer.offsets_for_time`."""
        wanted = [KafkaPartition(part.topic, part.partition, timestamp_ms) for part in partitions]
        try:
            found = self._kafka.offsets_for_times(wanted, timeout=_ANSWER) if wanted else []
        except KafkaException as error:
            raise LogUnavailable(f"Kafka did not answer for the offsets at a time: {error}") from error
        answer = {TopicPartition(part.topic, part.partition): part.offset for part in found}
        return answer | self.end_offsets([part for part, offset in answer.items() if offset < 0])

    def commit_hint(self, position: Position) -> None:
        """See `Consumer.commit_hint`."""
        hints = [
            KafkaPartition(part.topic, part.partition, offset)
            for part, offset in position.offsets.items()
            if part in self._ownership.positions
        ]
        if self._group is None or not hints:
            return
        try:
            self._kafka.commit(offsets=hints, asynchronous=True)
        except Exception:
            _logger.debug("the hint for lag tools was not taken", exc_info=True)

    @property
    def last_error(self) -> str | None:
        """See `Consumer.last_error`."""
        return self._ownership.error or self._error

    def close(self) -> None:
        """See `Consumer.close`."""
        self._kafka.close()
        self._ownership.settle()


def _ours(partitions: Iterable[Any]) -> set[TopicPartition]:
    return {TopicPartition(part.topic, part.partition) for part in partitions}


def _theirs(partitions: Iterable[TopicPartition]) -> list[Any]:
    return [KafkaPartition(part.topic, part.partition) for part in partitions]


def _headers(run: list[Any]) -> list[Headers]:
    # Two microseconds a record, of ten that a projector takes: only where they are asked for.
    found = [record.headers() or [] for record in run]
    return found if any(found) else []
