"""Sending, the same for every client: refused, waiting or settled, no record is forgotten; a dead client is replaced."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

from mesh_core.log.config import KafkaConfig
from mesh_core.log.errors import DeliveryFailed, DeliveryTimeout, LogError, LogUnavailable
from mesh_core.log.interface import Delivered, Headers, Outgoing, SentTogether
from mesh_core.log.lifetime import Closing
from mesh_core.log.outstanding import Outstanding, check_size, settle
from mesh_core.log.position import TopicPartition

_CLOSING = 5.0

Client = TypeVar("Client")
Settled = Callable[[Delivered | Exception], None]
"""Is told what came of a record."""


class ClientProducer(Closing, ABC, Generic[Client]):
    """`mesh_core.log.Producer` but for its client, which a subclass makes, hands records to, and ends.

    `_kafka` is None where the subclass, holding `_lock`, gave its client up; the next send makes another.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._outstanding = Outstanding(config.delivery_timeout)
        self._closed = threading.Event()
        self._kafka: Client | None = self._build()

    @abstractmethod
    def _build(self) -> Client:
        """Make a client."""

    @abstractmethod
    def _hand_over(
        self,
        kafka: Client,
        settled: Settled,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None,
        headers: Headers,
        partition: int | None,
    ) -> None:
        """Queue a record with the client, and say what came of it once the broker has answered.

        Raises LogError or LogUnavailable where the client does not take it.
        """

    @abstractmethod
    def _knows(self, kafka: Client, topic: str) -> bool:
        """Whether the client need not ask for the partitions of a topic first."""

    @abstractmethod
    def _end(self) -> None:
        """Let go of client and threads, and give up on what is not acknowledged; nothing more is sent."""

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
        """See `Producer.send`."""
        size = check_size(topic, key, value, headers)
        kafka = self._current()
        future = self._outstanding.add(size)
        try:
            self._hand_over(
                kafka, partial(settle, future), topic, key, value, timestamp_ms, headers, partition
            )
        except (LogError, LogUnavailable) as problem:
            settle(future, problem)
            raise
        except BaseException as error:
            settle(future, DeliveryFailed(f"The record for topic {topic} was not sent: {error}"))
            raise
        return future

    def send_all(self, records: Sequence[Outgoing]) -> SentTogether:
        """See `Producer.send_all`."""
        return self._send_all(None, records)

    def send_at_once(self, records: Sequence[Outgoing]) -> SentTogether | None:
        """See `Producer.send_at_once`."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            kafka = None if self._closed.is_set() else self._kafka
        finally:
            self._lock.release()
        if kafka is None or not self._outstanding.has_room():
            return None
        if not all(self._knows(kafka, topic) for topic in {record.topic for record in records}):
            return None
        return self._send_all(kafka, records)

    def _send_all(self, kafka: Client | None, records: Sequence[Outgoing]) -> SentTogether:
        sizes: list[int] = []
        refused: Exception | None = None
        try:
            if kafka is None:
                kafka = self._current()
            for record in records:
                sizes.append(check_size(record.topic, record.key, record.value, record.headers))
            future = self._outstanding.add(sum(sizes))
        except (LogError, LogUnavailable) as error:
            refused, future = error, Future()
        together = _Together(future, len(records))
        for number, record in enumerate(records):
            if refused is None:
                assert kafka is not None
                try:
                    self._hand_over(
                        kafka,
                        partial(together.settle, number),
                        record.topic,
                        record.key,
                        record.value,
                        record.timestamp_ms,
                        record.headers,
                        None,
                    )
                    continue
                except (LogError, LogUnavailable) as error:
                    refused = error
                except Exception as error:
                    refused = DeliveryFailed(f"A record for topic {record.topic} was not sent: {error}")
            together.settle(number, refused)
        return SentTogether(together.results, together.done)

    def flush(self, timeout: float) -> None:
        """See `Producer.flush`."""
        self._outstanding.wait(timeout)

    def close(self) -> None:
        """See `Producer.close`."""
        if self._closed.is_set():
            return
        with contextlib.suppress(DeliveryTimeout):
            self.flush(_CLOSING)
        self._closed.set()
        self._end()

    def _current(self) -> Client:
        with self._lock:
            if self._closed.is_set():
                raise LogError("The producer is closed.")
            if self._kafka is None:
                self._kafka = self._build()
            return self._kafka


class _Together:
    """What came of each of so many records, one future for all: one for each takes longer than the sending."""

    def __init__(self, future: Future[Delivered], count: int) -> None:
        """`future` is the one that is outstanding: it fails where the client is given up."""
        self.done: Future[None] = Future()
        self.results: list[Delivered | Exception] = [_UNSETTLED] * count
        self._future, self._left, self._lock = future, count, threading.Lock()
        future.add_done_callback(self._given_up)
        if count == 0:
            self._end()

    def settle(self, number: int, outcome: Delivered | Exception) -> None:
        """Of the record with this number."""
        with self._lock:
            if self.results[number] is not _UNSETTLED:
                return  # given up on, acknowledged after all
            self.results[number] = outcome
            self._left -= 1
            last = self._left == 0
        if last:
            self._end()

    def _given_up(self, future: Future[Delivered]) -> None:
        error = future.exception()
        if error is None:
            return
        with self._lock:
            failure = error if isinstance(error, Exception) else DeliveryTimeout()
            self.results[:] = [failure if each is _UNSETTLED else each for each in self.results]
            over, self._left = self._left > 0, 0
        if over:
            self._end()

    def _end(self) -> None:
        settle(self._future, _NOWHERE)
        if not self.done.done():
            self.done.set_result(None)


_UNSETTLED = DeliveryTimeout()
_NOWHERE = Delivered(TopicPartition("", 0), -1)
