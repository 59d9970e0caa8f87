"""Reading with kafka-python."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from mesh_core.log.config import KafkaConfig
from mesh_core.log.errors import LogError, LogUnavailable, OffsetOutOfRange
from mesh_core.log.interface import AssignmentListener, Chunk
from mesh_core.log.kafka_python.assignor import Cooperative
from mesh_core.log.kafka_python.connection import build
from mesh_core.log.kafka_python.fetching import Fetching
from mesh_core.log.kafka_python.joining import Joining
from mesh_core.log.lifetime import Closing
from mesh_core.log.ownership import Ownership
from mesh_core.log.position import Position, TopicPartition

_ANSWER_MS = 5_000
_SLICE = 0.1
"""Seconds between two looks at the group while nothing arrives."""
_BUSY_ROUND = 500
"""A round with that many records is a sign of lag: another follows, for larger batches."""
_BUSY_WAIT = 0.02

_logger = logging.getLogger(__name__)


class KafkaPythonConsumer(Closing):
    """`mesh_core.log.Consumer` on kafka-python's KafkaConsumer."""

    def __init__(self, config: KafkaConfig, group: str | None, instance_id: str | None) -> None:
        """Connects. Raises LogUnavailable if no broker answers."""
        self._group = group
        self._error: str | None = None
        self._ownership = Ownership()
        assignor = Cooperative()
        self._kafka: Any = build(
            config,
            KafkaConsumer,
            group_id=group,
            group_instance_id=instance_id if group else None,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            partition_assignment_strategy=(assignor,),
            heartbeat_interval_ms=1_000,
            session_timeout_ms=6_000,
            max_poll_interval_ms=60_000,
            # A fetch leaves out partitions of which records are still in hand, and none follows before it is answered:
            # what they got meanwhile waited for half a second.
            fetch_max_wait_ms=50,
            max_poll_records=5_000,
            max_partition_fetch_bytes=1024
            * 1024,  # 4 MiB gained nothing, and a lagging projector took 80 MB more
            metrics_enabled=False,
        )
        Fetching(self._kafka)
        if group:
            assignor.owned = self._kafka._subscription.assigned_partitions
            Joining(self._kafka)

    def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        """See `Consumer.subscribe`."""
        self._ownership.listener = listener
        self._kafka.subscribe(topics=sorted(topics), listener=_Reporter(self._ownership, self._park))

    def assign(self, start: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.assign`."""
        self._ownership = Ownership()
        self._ownership.positions.update(start)
        self._kafka.assign([KafkaPartition(part.topic, part.partition) for part in start])
        for part, offset in start.items():
            self.seek(part, offset)

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        """See `Consumer.poll`."""
        deadline = time.monotonic() + timeout
        gathered: dict[Any, list[Any]] = {}
        count = 0
        while True:
            if not count:
                self._start_new()
            left = deadline - time.monotonic()
            wait = _BUSY_WAIT if count else max(0.0, min(left, _SLICE))
            found = self._read(max_records - count, wait, bool(count))
            for part, records in found.items():
                gathered.setdefault(part, []).extend(records)
            fresh = sum(map(len, found.values()))
            count += fresh
            if count:
                if fresh < _BUSY_ROUND or count >= max_records:
                    break
            elif left < 0.001 or self._moved():
                break
        return self._chunks(gathered)

    def _start_new(self) -> None:
        for part, offset in self._ownership.settle().items():
            self._seek(part, offset)
            if part not in self._ownership.paused:
                with suppress(KeyError):  # given up meanwhile, as the next poll will tell
                    self._kafka.resume(KafkaPartition(part.topic, part.partition))

    def _read(self, max_records: int, wait: float, has_some: bool) -> dict[Any, list[Any]]:
        try:
            found: dict[Any, list[Any]] = self._kafka.poll(int(wait * 1000), max_records)
        except kafka_errors.KafkaError as error:
            if has_some:
                return {}  # it comes again at the next poll, when it hides no records
            self._raise(error)
            time.sleep(wait)
            return {}
        self._error = None
        return found

    def _raise(self, error: kafka_errors.KafkaError) -> None:
        if isinstance(error, kafka_errors.OffsetOutOfRangeError):
            found, offset = next(iter(error.args[0].items()))
            raise self._out_of_range(TopicPartition(*found), offset) from error
        if isinstance(error, kafka_errors.LogTruncationError):
            found = TopicPartition(*next(iter(error.divergent_offsets)))
            raise self._out_of_range(found, self._ownership.positions.get(found, 0)) from error
        if not getattr(error, "retriable", False):
            raise LogError(f"Kafka refused to be read: {error}") from error
        self._error = f"Kafka cannot be read just now: {error}"

    def _out_of_range(self, part: TopicPartition, offset: int) -> OffsetOutOfRange:
        try:
            return OffsetOutOfRange(
                part, offset, self.beginning_offsets([part])[part], self.end_offsets([part])[part]
            )
        except LogUnavailable:
            return OffsetOutOfRange(part, offset)

    def _position(self, part: TopicPartition) -> int:
        # KafkaConsumer.position() would walk all partitions and may wait for the broker.
        state = self._kafka._subscription.assignment.get(KafkaPartition(part.topic, part.partition))
        known = self._ownership.positions[part]
        return known if state is None or state.position is None else int(state.position.offset)

    def _moved(self) -> bool:
        return any(self._position(part) != offset for part, offset in self._ownership.positions.items())

    def _chunks(self, gathered: dict[Any, list[Any]]) -> list[Chunk]:
        after = {part: self._position(part) for part in self._ownership.positions}
        disturbed = self._ownership.disturbed()
        chunks = []
        for part, next_offset in after.items():
            records = gathered.get((part.topic, part.partition), [])
            if part in disturbed or (not records and next_offset == self._ownership.positions[part]):
                continue
            start, self._ownership.positions[part] = self._ownership.positions[part], next_offset
            headers = [record.headers for record in records]
            chunks.append(
                Chunk(
                    partition=part,
                    keys=[record.key for record in records],
                    values=[record.value for record in records],
                    offsets=[record.offset for record in records],
                    timestamps=[record.timestamp for record in records],
                    headers=headers if any(headers) else [],
                    next_offset=next_offset,
                    start=start,
                )
            )
        return chunks

    def _park(self, partitions: Collection[Any]) -> None:
        # On the IO thread, before anything is fetched. Without a position of ours kafka-python would start
        # at the committed hint; the offset is a placeholder, never read from while paused.
        for part in partitions:
            self._kafka.pause(part)
            self._kafka.seek(part, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See `Consumer.seek`."""
        if partition not in self._ownership.positions:
            raise LogError(f"{partition} is not read by this consumer.")
        self._seek(partition, offset)
        self._ownership.positions[partition] = offset

    def _seek(self, partition: TopicPartition, offset: int) -> None:
        with suppress(ValueError):  # given up meanwhile, as the next poll will tell
            self._kafka.seek(KafkaPartition(partition.topic, partition.partition), offset)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        for part in partitions:
            if part in self._ownership.positions:
                with suppress(KeyError):  # given up meanwhile, as the next poll will tell
                    self._kafka.pause(KafkaPartition(part.topic, part.partition))
                    self._ownership.paused.add(part)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        stopped = self._ownership.paused.intersection(partitions)
        for part in stopped:
            with suppress(KeyError):  # given up meanwhile
                self._kafka.resume(KafkaPartition(part.topic, part.partition))
        self._ownership.paused -= stopped

    def paused(self) -> set[TopicPartition]:
        """See `Consumer.paused`."""
        return set(self._ownership.paused)

    def positions(self) -> Position:
        """See `Consumer.positions`."""
        return Position(dict(self._ownership.positions))

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.beginning_offsets`."""
        return self._ask(self._kafka.beginning_offsets, partitions)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.end_offsets`."""
        return self._ask(self._kafka.end_offsets, partitions)

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """See `Consumer.offsets_for_time`."""
        ends = self.end_offsets(partitions)

        def at_time(wanted: list[Any], timeout_ms: int) -> dict[Any, int]:
            found = self._kafka.offsets_for_times(dict.fromkeys(wanted, timestamp_ms), timeout_ms=timeout_ms)
            return {
                part: ends[TopicPartition(*part)] if known is None or known.offset < 0 else known.offset
                for part, known in found.items()
            }

        return self._ask(at_time, partitions)

    def _ask(
        self, question: Callable[..., dict[Any, int]], partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        wanted = [KafkaPartition(part.topic, part.partition) for part in partitions]
        try:
            answer = question(wanted, timeout_ms=_ANSWER_MS) if wanted else {}
        except (kafka_errors.KafkaError, KeyError, AttributeError) as error:
            names = ", ".join(sorted({part.topic for part in partitions}))
            raise LogUnavailable(f"Kafka did not answer for the offsets of {names}: {error!r}") from error
        return {TopicPartition(*part): offset for part, offset in answer.items()}

    def commit_hint(self, position: Position) -> None:
        """See `Consumer.commit_hint`."""
        hints = {
            KafkaPartition(part.topic, part.partition): OffsetAndMetadata(offset, "", -1)
            for part, offset in position.offsets.items()
            if part in self._ownership.positions
        }
        if self._group is None or not hints:
            return
        try:
            self._kafka.commit_async(hints)
        except Exception:
            _logger.debug("the hint for lag tools was not taken", exc_info=True)

    @property
    def last_error(self) -> str | None:
        """See `Consumer.last_error`."""
        connections = list(self._kafka._client._manager._conns.values())
        if not any(connection.connected for connection in connections):
            return "No broker of Kafka is connected."
        return self._ownership.error or self._error

    def close(self) -> None:
        """See `Consumer.close`."""
        self._kafka.close(autocommit=False, timeout_ms=1_000)
        self._ownership.settle()


class _Reporter(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands what the group decided to `Ownership`; runs on kafka-python's IO thread."""

    def __init__(self, ownership: Ownership, park: Callable[[Collection[Any]], None]) -> None:
        self._ownership = ownership
        self._park = park

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._park(assigned)
        self._ownership.report("assigned", [TopicPartition(*part) for part in assigned])

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        self._ownership.report("revoked", [TopicPartition(*part) for part in revoked])

    def on_partitions_lost(self, lost: Collection[Any]) -> None:
        self._ownership.report("lost", [TopicPartition(*part) for part in lost])
