"""What the rest of Flexmesh knows of Kafka: these types, whichever client is behind them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self, runtime_checkable

from mesh_core.log.position import Position, TopicPartition

Headers = Sequence[tuple[str, bytes]]
"""The headers of one record, in order; a name may occur twice."""


class Chunk:
    """The run of records that one poll returned of one partition, as columns: parallel lists.

    `timestamps` are milliseconds since the epoch. `headers` has one entry a record, or is an empty list if
    no record of the chunk has any; a client may give a function instead, which is asked when they are. `start` and
    `next_offset` are the consumer's position before and after the chunk; they also count what is never shown, aborted
    transactions and control records, so a chunk can have no records at all.
    """

    __slots__ = ("_headers", "keys", "next_offset", "offsets", "partition", "start", "timestamps", "values")

    def __init__(
        self,
        partition: TopicPartition,
        keys: list[bytes | None],
        values: list[bytes | None],
        offsets: list[int],
        timestamps: list[int],
        headers: list[Headers] | Callable[[], list[Headers]],
        next_offset: int,
        start: int,
    ) -> None:
        self.partition, self.keys, self.values, self.offsets = partition, keys, values, offsets
        self.timestamps, self._headers, self.next_offset, self.start = timestamps, headers, next_offset, start

    @property
    def headers(self) -> list[Headers]:
        """The headers of each record, or []."""
        if callable(self._headers):
            self._headers = self._headers()
        return self._headers

    def keep_headers(self) -> None:
        """Ask for the headers now, and let the client's records go."""
        self._headers = self.headers

    def without_headers(self) -> None:
        """Nobody will ask for headers: let the client's records go."""
        self._headers = _gone

    def extend(self, later: Chunk) -> None:
        """Take in the chunk that comes after this one."""
        if self._headers is not _gone or later._headers is not _gone:
            mine, more = ([] if chunk._headers is _gone else chunk.headers for chunk in (self, later))
            if mine or more:
                mine = [*(mine or [()] * len(self.offsets)), *(more or [()] * len(later.offsets))]
            self._headers = mine
        self.keys += later.keys
        self.values += later.values
        self.offsets += later.offsets
        self.timestamps += later.timestamps
        self.next_offset = later.next_offset


def _gone() -> list[Headers]:
    raise AssertionError("headers were asked for after they were let go")


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where an acknowledged record is in the log."""

    partition: TopicPartition
    offset: int


class Outgoing(NamedTuple):
    """A record to be sent; `timestamp_ms` is since 1970."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int | None = None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class SentTogether:
    """Records that were sent by one call.

    Once `done`, which never fails, `results` has for each where it is, or what `Producer.send` would have raised or its
    future failed with.
    """

    results: list[Delivered | Exception]
    done: Future[None]


class AssignmentListener(Protocol):
    """Is told of changes in what a consumer of a group owns; of partitions that stay it hears nothing.

    All methods are called inside `Consumer.poll`, on the thread that called it.
    """

    def assigned(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Answer the offset at which to start each of the partitions, before any record of them is returned.

        If it raises, none of them is read; it is asked again by later polls, with a growing pause.
        """

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions now belong to another consumer, or to nobody yet."""

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions were taken away because the group took this consumer for dead."""


class Consumer(Protocol):
    """Reads committed records; never commits by itself and never moves to another offset silently.

    It is used by one thread at a time.
    """

    def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        """Share the partitions of `topics` with the other consumers of the group.

        Called again it changes the topics; what stays owned is read on.
        """

    def assign(self, start: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions from these offsets, outside any group."""

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        """Records that are there, at most about `max_records`; one chunk a partition.

        Returns as soon as there is something, and [] after `timeout` seconds without, also while the broker
        is down (see `last_error`). Raises OffsetOutOfRange, at every poll until the partition is sought or
        paused, and LogError for what waiting cannot heal.
        """

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on reading an owned partition at `offset`."""

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Stop reading these until `resume`, or until they are revoked; they stay owned."""

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Read these again. Partitions that are not paused, or not owned, are left as they are."""

    def paused(self) -> set[TopicPartition]:
        """What `pause` stopped."""

    def positions(self) -> Position:
        """The next offset of every partition that is owned and has been positioned."""

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that the log still holds of each. Raises LogUnavailable."""

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last committed record of each. Raises LogUnavailable."""

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """The first offset of each whose record is at or after the time, else its end offset.

        Raises LogUnavailable.
        """

    def commit_hint(self, position: Position) -> None:
        """Tell Kafka how far we are, for lag tools only. Best effort: never raises, never waits."""

    @property
    def last_error(self) -> str | None:
        """What is wrong with the log or the assignment just now, for people; None if nothing is."""

    def close(self) -> None:
        """Leave the group and let go of everything; takes a second or two at most."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Producer(Protocol):
    """Writes records, each once and in order per key while it lives; may be shared by threads."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        timestamp_ms: int | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Future[Delivered]:
        """Queue one record; the future tells where it is, or fails.

        It fails with DeliveryTimeout (it may or may not be in the log), DeliveryFailed, TopicMissing or
        MessageTooLarge; the last two can also be raised at once.
        """

    def send_all(self, records: Sequence[Outgoing]) -> SentTogether:
        """Queue records in this order; cheaper than `send` for each. Where one is not taken, those behind it are not either."""

    def send_at_once(self, records: Sequence[Outgoing]) -> SentTogether | None:
        """As `send_all`, or None, with nothing sent, where that would wait: for room, news of a topic, another client."""

    def flush(self, timeout: float) -> None:
        """Wait until all that was sent is settled. Raises DeliveryTimeout after `timeout` seconds."""

    def close(self) -> None:
        """Flush for a short time, then let go; what was not acknowledged fails."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What Kafka says of a topic. Times in milliseconds, sizes in bytes, -1 for unlimited."""

    name: str
    topic_id: str
    partitions: int
    cleanup_policy: str
    retention_ms: int
    retention_bytes: int

    def problems(self) -> list[str]:
        """Why the topic cannot be the one truth, a sentence each; empty if it can."""
        found = []
        if self.cleanup_policy != "delete":
            found.append(
                f"Topic {self.name} has cleanup.policy={self.cleanup_policy}, which compacts "
                "events away; set it to delete."
            )
        if self.retention_ms != -1:
            found.append(
                f"Topic {self.name} keeps events for {self.retention_ms} ms only; set retention.ms to -1."
            )
        if self.retention_bytes != -1:
            found.append(
                f"Topic {self.name} keeps {self.retention_bytes} bytes a partition only; "
                "set retention.bytes to -1."
            )
        return found


class Admin(Protocol):
    """Creates, describes and deletes topics. Every method raises LogUnavailable while Kafka is down."""

    def create_topic(self, name: str, partitions: int, replication: int = -1) -> TopicFacts:
        """See to it that the topic exists, with unlimited retention; one that exists is left as it is.

        `replication` -1 takes the broker's default.
        """

    def describe(self, names: Collection[str]) -> dict[str, TopicFacts]:
        """Facts by name; a topic that does not exist is left out."""

    def delete_topic(self, name: str) -> None:
        """Delete the topic and its records, if it exists."""

    def close(self) -> None:
        """Let go of the connections."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Driver(Protocol):
    """One way to reach one Kafka cluster."""

    def consumer(self, group: str | None = None, instance_id: str | None = None) -> Consumer:
        """A new consumer; `group` to subscribe, None to assign. `instance_id` makes its restart cheap."""

    def producer(self) -> Producer:
        """A new producer."""

    def admin(self) -> Admin:
        """A new admin client."""

    def reachable(self, timeout: float = 1.0) -> bool:
        """Whether any of the bootstrap servers accepts a connection."""
