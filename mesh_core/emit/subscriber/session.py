"""A subscriber at work: it reads what the group gives it, and moves its checkpoint with the effects."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from mesh_core.emit.subscriber import letters, store
from mesh_core.emit.subscriber.effects import REFUSING, Effects, letter_of, refusal
from mesh_core.emit.subscriber.store import Superseded
from mesh_core.errors import DependencyUnavailable, MeshError
from mesh_core.log import Chunk, Consumer, Driver, OffsetOutOfRange
from mesh_core.log.position import TopicPartition
from mesh_core.store.connections import connect
from mesh_core.store.faults import fault_of
from mesh_core.telemetry import get_logger

BATCH = 500
"""Most records of a partition whose effects are one transaction."""
_POLL = 0.5
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
log = get_logger(__name__)


class SubscriberStopped(MeshError):
    """A subscriber cannot go on."""


class Session:
    """One membership of the group, with its connection to Postgres."""

    def __init__(
        self, database_url: str, driver: Driver, effects: Effects, stopping: threading.Event
    ) -> None:
        self._name, self._url, self._driver = effects.name, database_url, driver
        self._effects, self._stopping = effects, stopping
        self._connection: psycopg.Connection[Any] | None = None
        self._failure: SubscriberStopped | None = None
        self._taking = False  # what is raised is a handler's
        self._fences: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}

    def run(self, until_end: bool) -> None:
        """See `Subscriber.run`."""
        pause = _PAUSE
        while not self._stopping.is_set():
            self._taking = False
            try:
                self._member(until_end)
                return
            except (DependencyUnavailable, psycopg.Error) as error:
                if self._taking or not _passes(error):
                    raise
                log.warning("waiting", subscriber=self._name, cause=str(error).split("\n")[0])
                self._stopping.wait(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)

    def _member(self, until_end: bool) -> None:
        with self._driver.consumer(self._name) as consumer:
            try:
                self._look_for_topics()
                ends = self._ends(consumer) if until_end else None
                consumer.subscribe(self._effects.topics, self)
                while not self._stopping.is_set() and not (ends is not None and self._reached(ends)):
                    self._turn(consumer)
            finally:
                self.revoked(list(self._fences))
                if self._connection is not None:
                    self._connection.close()

    def _look_for_topics(self) -> None:
        with self._driver.admin() as admin:
            missing = set(self._effects.topics) - set(admin.describe(self._effects.topics))
        if missing:
            log.warning(
                "no such topic",
                subscriber=self._name,
                topics=sorted(missing),
                remedy="Its events are read once it is made; or correct the type of the event class.",
            )

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
            self._taking = True
            try:
                self._take(chunk)
                self._taking = False
            except Superseded as error:
                self._taking = False
                log.warning("fenced", subscriber=self._name, error=str(error))
                self._look_again(consumer, chunk.partition)

    def _take(self, chunk: Chunk) -> None:
        """Give all records of a chunk their effects, again while what is in the way passes."""
        pause = _PAUSE
        while True:
            try:
                self._apply(chunk, 0, len(chunk.offsets))
                self._positions[chunk.partition] = chunk.next_offset
                return
            except psycopg.Error as error:
                if fault_of(error) != "passing" or self._stopping.wait(pause):
                    raise
                log.warning("waiting", subscriber=self._name, cause=str(error).split("\n")[0])
                pause = min(_LONGEST_PAUSE, 2 * pause)

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
                self._effects.of(connection, chunk, first, end)
        except REFUSING as error:
            reason, detail = refusal(error)
            if end - first > 1:
                middle = (first + end) // 2
                self._apply(chunk, first, middle)
                self._apply(chunk, middle, end)
                return
            with self._transaction() as connection:
                store.advance(
                    connection, self._name, chunk.partition, self._fences[chunk.partition], before, after
                )
                letters.keep(connection, self._name, letter_of(chunk, first, reason, detail))
        self._positions[chunk.partition] = after

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
            facts = admin.describe(self._effects.topics)
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


def _passes(error: DependencyUnavailable | psycopg.Error) -> bool:
    return isinstance(error, DependencyUnavailable) or fault_of(error) == "passing"


def _made_anew(topic: str, subscriber: str) -> SubscriberStopped:
    return SubscriberStopped(
        f"Topic {topic} was made anew since the last checkpoint.",
        remedy=f"Delete the rows of {subscriber} in subscription_checkpoints and subscription_sequences to begin it anew.",
    )
