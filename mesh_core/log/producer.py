"""Sending, the same for every client: refused, waiting or settled, no record is forgotten; a dead client is replaced."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Generic, TypeVar

from mesh_core.log.config import KafkaConfig
from mesh_core.log.errors import DeliveryFailed, DeliveryTimeout, LogError, LogUnavailable
from mesh_core.log.interface import Delivered, Headers
from mesh_core.log.lifetime import Closing
from mesh_core.log.outstanding import Outstanding, check_size, settle

_CLOSING = 5.0

Client = TypeVar("Client")


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
        future: Future[Delivered],
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None,
        headers: Headers,
        partition: int | None,
    ) -> None:
        """Queue a record with the client, and settle `future` once the broker has answered.

        Raises LogError or LogUnavailable where the client does not take it.
        """

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
            self._hand_over(kafka, future, topic, key, value, timestamp_ms, headers, partition)
        except (LogError, LogUnavailable) as problem:
            settle(future, problem)
            raise
        except BaseException as error:
            settle(future, DeliveryFailed(f"The record for topic {topic} was not sent: {error}"))
            raise
        return future

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
