"""`Subscriber`: handlers of events, each called in the transaction that moves the checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import psycopg

from mesh_core.contracts import Refusal, Unknown
from mesh_core.emit.subscriber import letters, store
from mesh_core.emit.subscriber.events import EventRefused, Reading, Received
from mesh_core.emit.subscriber.letters import Letter
from mesh_core.emit.subscriber.store import Superseded, subscriber_sql
from mesh_core.errors import MeshError, UsageError
from mesh_core.log import Chunk, Consumer, Driver, OffsetOutOfRange
from mesh_core.log.position import TopicPartition
from mesh_core.model import Event
from mesh_core.store.connections import connect
from mesh_core.store.faults import fault_of
from mesh_core.telemetry import bound, get_logger

BATCH = 500
"""Most records of a partition whose effects are one transaction."""
_POLL = 0.5
_REFUSING = (psycopg.Error, EventRefused, UnicodeEncodeError)
E = TypeVar("E", bound=Event)
Handler = Callable[[Received[E], psycopg.Connection[Any]], None]
log = get_logger(__name__)


class SubscriberStopped(MeshError):
    """A subscriber cannot go on."""


class Subscriber:
    """Calls the handlers of a service with the events that it asked for, in order per key.

    >>> billing = Subscriber("billing", database_url, driver)  # doctest: +SKIP
    >>> @billing.on(CustomerRegistered)
    ... def keep(received, connection):
    ...     connection.execute("INSERT INTO customers VALUES (%s, %s)", (received.key, received.event.name))
    >>> billing.run()

    What a handler writes on `connection` is committed with the checkpoint, so that it takes effect once, whatever is
    redelivered, killed or shared by several processes of the same name. An event that repeats or goes back in
    `sequence` is left out. A handler that raises EventRefused, or meets bad data in Postgres (SQLSTATE classes 22, 23,
    54), makes the event a dead letter, as does a record that does not keep its contract: it is kept whole in
    `subscription_letters`, and what follows of its key is parked behind it until `retry` or `discard`. While Postgres
    or Kafka is away it waits; any other error ends `run`, with nothing of the batch committed.
    """

    def __init__(self, name: str, database_url: str, driver: Driver) -> None:
        """`name` is that of the consumer group, too: processes with the same name share the partitions."""
        self._name, self._url, self._driver = name, database_url, driver
        self._handlers: dict[str, Callable[[Received[Any], psycopg.Connection[Any]], None]] = {}
        self._events: list[type[Event]] = []
        self._stopping = threading.Event()

    def on(self, event: type[E]) -> Callable[[Handler[E]], Handler[E]]:
        """Decorates the handler of a type of event. Raises UsageError if it has one."""
        if event.foreign is not None:
            raise UsageError(
                f"{event.type} is read from {event.topic}, which others write as they do.",
                remedy="Project it, and read the view; or subscribe to events of the mesh.",
            )

        def add(handler: Handler[E]) -> Handler[E]:
            if event.type in self._handlers:
                raise UsageError(f"{event.type} has a handler already.", remedy="Do both in one handler.")
            self._handlers[event.type] = handler
            self._events.append(event)
            return handler

        return add

    def create_tables(self) -> None:
        """Make the tables of `subscriber_sql` where they are missing."""
        with closing(self._connect()) as connection, connection.transaction():
            connection.execute(subscriber_sql())

    def run(self, *, until_end: bool = False) -> None:
        """Until `stop`; with `until_end`, until what is in the log now has had its effects.

        Raises SubscriberStopped where a topic is not what it was, and whatever a handler raises that is neither bad data
        nor passing.
        """
        reading = Reading(self._events)
        if not self._events:
            raise UsageError("The subscriber has no handlers.", remedy="Decorate some with `on`.")
        session = _Session(self._name, self._url, self._driver, self._handlers, reading, self._stopping)
        session.run(until_end)

    def stop(self) -> None:
        """Finish the batch at hand and leave; safe from any thread and from a signal's handler."""
        threading.Thread(target=self._stopping.set, daemon=True).start()

    def letters(self, limit: int = 1000) -> list[Letter]:
        """What was refused, and what is parked behind it, in the order of the log."""
        with closing(self._connect()) as connection:
            return letters.kept(connection, self._name, limit=limit)

    def retry(self, letter: Letter) -> bool:
        """Handle a refused record anew, then what is parked behind it; whether all of it took effect."""
        return self._decide(letter, discard=False)

    def discard(self, letter: Letter) -> bool:
        """Forget a refused record, and handle what is parked behind it; whether all of that took effect."""
        return self._decide(letter, discard=True)

    def _decide(self, letter: Letter, *, discard: bool) -> bool:
        if letter.reason is None:
            raise UsageError("The record is parked, not refused.", remedy="Decide on the one before it.")
        session = _Session(
            self._name, self._url, self._driver, self._handlers, Reading(self._events), self._stopping
        )
        with closing(self._connect()) as connection:
            return session.decide(connection, letter, discard)

    def _connect(self) -> psycopg.Connection[Any]:
        return connect(self._url, f"subscriber {self._name}")


class _Session:
    def __init__(
        self,
        name: str,
        database_url: str,
        driver: Driver,
        handlers: Mapping[str, Callable[[Received[Any], psycopg.Connection[Any]], None]],
        reading: Reading,
        stopping: threading.Event,
    ) -> None:
        self._name, self._url, self._driver = name, database_url, driver
        self._handlers, self._reading, self._stopping = handlers, reading, stopping
        self._connection: psycopg.Connection[Any] | None = None
        self._failure: SubscriberStopped | None = None
        self._fences: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}

    # ---- reading

    def run(self, until_end: bool) -> None:
        with self._driver.consumer(self._name) as consumer:
            try:
                ends = self._ends(consumer) if until_end else None
                consumer.subscribe(self._reading.topics, self)
                while not self._stopping.is_set() and not (ends is not None and self._reached(ends)):
                    self._turn(consumer)
            finally:
                if self._connection is not None:
                    self._connection.close()

    def _turn(self, consumer: Consumer) -> None:
        try:
            chunks = consumer.poll(BATCH, _POLL)
        except OffsetOutOfRange as error:
            raise SubscriberStopped(
                f"{error.partition} no longer has the events from the checkpoint on: {error}",
                remedy="Load what is missing by hand, then set next_offset in subscription_checkpoints.",
            ) from error
        if self._failure is not None:
            raise self._failure
        for chunk in chunks:
            if self._stopping.is_set() or chunk.partition not in self._fences:
                return
            try:
                self._take(chunk)
            except Superseded as error:
                log.warning("fenced", subscriber=self._name, error=str(error))
                self._look_again(consumer, chunk.partition)

    def _take(self, chunk: Chunk) -> None:
        """Give all records of a chunk their effects, again while what is in the way passes."""
        pause = 0.1
        while True:
            try:
                self._apply(chunk, 0, len(chunk.offsets))
                self._positions[chunk.partition] = chunk.next_offset
                return
            except psycopg.Error as error:
                if fault_of(error) != "passing" or self._stopping.wait(pause):
                    raise
                log.warning("waiting", subscriber=self._name, cause=str(error).split("\n")[0])
                pause = min(5.0, 2 * pause)

    def _apply(self, chunk: Chunk, first: int, end: int) -> None:
        """Records first..end in one transaction; where one is bad data, halves of them, until it is alone."""
        before = self._positions[chunk.partition]
        after = chunk.next_offset if end == len(chunk.offsets) else chunk.offsets[end]
        if after <= before:
            return  # by a try before
        try:
            with self._transaction() as connection:
                store.advance(
                    connection, self._name, chunk.partition, self._fences[chunk.partition], before, after
                )
                self._effects(connection, chunk, first, end)
        except _REFUSING as error:
            reason, detail = _refusal(error)
            if end - first > 1:
                middle = (first + end) // 2
                self._apply(chunk, first, middle)
                self._apply(chunk, middle, end)
                return
            with self._transaction() as connection:
                store.advance(
                    connection, self._name, chunk.partition, self._fences[chunk.partition], before, after
                )
                letters.keep(connection, self._name, _letter(chunk, first, reason, detail))
        self._positions[chunk.partition] = after

    def _effects(self, connection: psycopg.Connection[Any], chunk: Chunk, first: int, end: int) -> None:
        topic = chunk.partition.topic
        keys = list({key for key in chunk.keys[first:end] if key is not None})
        held = letters.blocked(connection, self._name, topic, keys)
        known = dict(store.sequences(connection, self._name, topic, keys))
        new: dict[bytes, int] = {}
        headers = chunk.headers
        for n in range(first, end):
            key = chunk.keys[n]
            of = headers[n] if headers else ()
            found = self._reading.read(chunk.partition, chunk.offsets[n], key, chunk.values[n], of)
            if isinstance(found, Unknown):
                continue
            if key is not None and key in held:
                letters.keep(connection, self._name, _letter(chunk, n, None, None))
            elif isinstance(found, Refusal):
                letters.keep(connection, self._name, _letter(chunk, n, found.reason, found.detail))
                if key is not None:
                    held.add(key)
            elif self._is_new(found, key, known):
                self._handle(found, connection)
                if key is not None and found.sequence is not None:
                    known[key] = new[key] = found.sequence
        if new:
            store.keep_sequences(connection, self._name, topic, new)

    def _is_new(self, found: Received[Any], key: bytes | None, known: Mapping[bytes, int]) -> bool:
        return found.sequence is None or key is None or found.sequence > known.get(key, -(2**63))

    def _handle(self, found: Received[Any], connection: psycopg.Connection[Any]) -> None:
        """Call the handler; what it publishes is caused by the event."""
        with bound(
            correlation_id=found.correlation_id or found.id,
            causation_id=found.id,
            workflow_id=None if found.workflow_id is None else str(found.workflow_id),
            tenant_id=found.tenant_id,
            traceparent=found.traceparent,
        ):
            self._handlers[found.event.type](found, connection)

    # ---- dead letters

    def decide(self, connection: psycopg.Connection[Any], letter: Letter, discard: bool) -> bool:
        """Handle a letter anew, or forget it, then what is parked behind it, each in a transaction of its own."""
        topic = letter.partition.topic
        while True:
            with connection.transaction():
                store.lock(connection, self._name, letter.partition)
                behind = letters.kept(connection, self._name, topic, letter.key) if letter.key else [letter]
                if not behind or behind[0].offset != letter.offset:
                    return False
                if not letters.forget(connection, self._name, letter):
                    return False
                if not discard and not self._retried(connection, letter):
                    return False
            discard = False
            if len(behind) < 2:
                return True
            letter = behind[1]

    def _retried(self, connection: psycopg.Connection[Any], letter: Letter) -> bool:
        found = self._reading.read(letter.partition, letter.offset, letter.key, letter.value, letter.headers)
        if isinstance(found, Unknown):
            return True
        if isinstance(found, Refusal):
            reason, detail = str(found.reason), found.detail
        else:
            topic, keys = letter.partition.topic, [letter.key] if letter.key else []
            try:
                with connection.transaction():
                    if self._is_new(found, letter.key, store.sequences(connection, self._name, topic, keys)):
                        self._handle(found, connection)
                        if letter.key and found.sequence is not None:
                            store.keep_sequences(connection, self._name, topic, {letter.key: found.sequence})
                return True
            except _REFUSING as error:
                reason, detail = _refusal(error)
        letters.keep(
            connection,
            self._name,
            Letter(letter.partition, letter.offset, letter.key, letter.value, letter.headers, reason, detail),
        )
        return False

    # ---- what the group gives and takes (an AssignmentListener)

    def assigned(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Own these partitions from now on, from their checkpoints."""
        if not partitions:
            return {}
        with self._driver.admin() as admin:
            facts = admin.describe({partition.topic for partition in partitions})
        with self._connected() as connection:
            found = store.take_over(connection, self._name, partitions, facts)
        for partition, checkpoint in found.items():
            if checkpoint.topic_id != facts[partition.topic].topic_id:
                self._failure = _made_anew(partition.topic, self._name)  # the group would go on asking
                raise self._failure
            self._fences[partition] = checkpoint.fence
            self._positions[partition] = checkpoint.next_offset
        return {partition: checkpoint.next_offset for partition, checkpoint in found.items()}

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of these."""
        for partition in partitions:
            self._fences.pop(partition, None)
            self._positions.pop(partition, None)

    lost = revoked

    def _look_again(self, consumer: Consumer, partition: TopicPartition) -> None:
        """Somebody moved or took the checkpoint: go on from where it is, or leave it to them."""
        with self._connected() as connection:
            row = connection.execute(
                "SELECT next_offset, fence FROM subscription_checkpoints "
                "WHERE subscriber = %s AND topic = %s AND partition = %s",
                (self._name, partition.topic, partition.partition),
            ).fetchone()
        if row is not None and row[1] == self._fences.get(partition):
            self._positions[partition] = row[0]
            consumer.seek(partition, row[0])
        else:
            self.revoked([partition])
            consumer.pause([partition])

    def _ends(self, consumer: Consumer) -> dict[TopicPartition, int]:
        with self._driver.admin() as admin:
            facts = admin.describe(self._reading.topics)
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT DISTINCT topic, topic_id FROM subscription_checkpoints WHERE subscriber = %s",
                (self._name,),
            ).fetchall()
        for topic, topic_id in rows:
            if topic in facts and facts[topic].topic_id != topic_id:
                raise _made_anew(topic, self._name)
        return consumer.end_offsets(
            [TopicPartition(topic.name, n) for topic in facts.values() for n in range(topic.partitions)]
        )

    def _reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT topic, partition, next_offset FROM subscription_checkpoints WHERE subscriber = %s",
                (self._name,),
            ).fetchall()
        at = {TopicPartition(topic, number): offset for topic, number, offset in rows}
        return all(at.get(partition, 0) >= end for partition, end in ends.items())

    # ---- Postgres

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = connect(self._url, f"subscriber {self._name}")
        yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        with self._connected() as connection, connection.transaction():
            yield connection


def _refusal(error: Exception) -> tuple[str, str]:
    """Reason and detail of a record that is refused with this error. Raises it, where it is no refusal."""
    if isinstance(error, EventRefused):
        reason = "refused_by_handler"
    elif fault_of(error) == "data":
        reason = "refused_by_postgres"
    else:
        raise error
    return reason, str(error).split("\n")[0]


def _made_anew(topic: str, subscriber: str) -> SubscriberStopped:
    return SubscriberStopped(
        f"Topic {topic} was made anew since the last checkpoint.",
        remedy=f"Delete the rows of {subscriber} in subscription_checkpoints and subscription_sequences to begin it anew.",
    )


def _letter(chunk: Chunk, n: int, reason: str | None, detail: str | None) -> Letter:
    headers = chunk.headers
    return Letter(
        chunk.partition,
        chunk.offsets[n],
        chunk.keys[n],
        chunk.values[n],
        headers[n] if headers else (),
        reason,
        detail,
    )
