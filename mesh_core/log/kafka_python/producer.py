"""Writing with kafka-python."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future
from functools import partial
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from mesh_core.log.config import KafkaConfig
from mesh_core.log.errors import (
    DeliveryFailed,
    DeliveryTimeout,
    LogError,
    LogUnavailable,
    MessageTooLarge,
    TopicMissing,
)
from mesh_core.log.interface import Delivered, Headers
from mesh_core.log.kafka_python.connection import build
from mesh_core.log.lifetime import Closing
from mesh_core.log.outstanding import PUBLISH_AGAIN, Outstanding, check_size, settle
from mesh_core.log.position import TopicPartition
from mesh_core.log.reach import reachable

_NEVER_MS = 24 * 3600 * 1000
_CLOSING = 5.0
_ENDING = 2.0
_WATCH = 0.25


class KafkaPythonProducer(Closing):
    """`mesh_core.log.Producer` on kafka-python's idempotent KafkaProducer.

    A batch that outlives kafka-python's own delivery timeout wedges its producer for good. So that timeout
    is out of reach; the deadline is ours, and after it the producer is dropped and the next send builds
    another.
    """

    def __init__(self, config: KafkaConfig) -> None:
        """Connects. Raises LogUnavailable if no broker answers."""
        self._config = config
        self._lock = threading.Lock()
        self._outstanding = Outstanding(config.delivery_timeout)
        self._closed = threading.Event()
        self._kafka: Any = self._build()
        self._watcher = threading.Thread(target=self._watch, name="log-producer-deadlines", daemon=True)
        self._watcher.start()

    def _build(self) -> Any:
        return build(
            self._config,
            KafkaProducer,
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            linger_ms=5,
            batch_size=128 * 1024,
            delivery_timeout_ms=_NEVER_MS,
            max_block_ms=5_000,
            request_timeout_ms=10_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

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
            sent = kafka.send(
                topic,
                value=value,
                key=key,
                headers=list(headers),
                partition=partition,
                timestamp_ms=timestamp_ms,
            )
        except kafka_errors.KafkaError as error:
            problem = _problem(topic, error)
            if isinstance(error, kafka_errors.KafkaTimeoutError) and reachable(self._config.bootstrap, 1.0):
                problem = _missing(topic)  # it waited for news of the topic, and Kafka is there
            settle(future, problem)
            raise problem from error
        except BaseException as error:
            settle(future, DeliveryFailed(f"The record for topic {topic} was not sent: {error}"))
            raise
        sent.add_both(partial(_settled, future, topic))
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
        self._watcher.join()
        self._drop()

    def _current(self) -> Any:
        with self._lock:
            if self._closed.is_set():
                raise LogError("The producer is closed.")
            if self._kafka is None:
                self._kafka = self._build()
            return self._kafka

    def _watch(self) -> None:
        while not self._closed.wait(_WATCH):
            if self._outstanding.overdue():
                self._drop()

    def _drop(self) -> None:
        with self._lock:  # nothing is sent by another producer before this one is dead
            kafka, self._kafka = self._kafka, None
            if kafka is not None:
                # close() alone flushes first, and if that takes too long raises with the sender at work: it
                # would deliver records later, behind those of the next producer.
                kafka._sender.force_close()
                kafka._sender.join(_ENDING)
                with contextlib.suppress(kafka_errors.KafkaError):
                    kafka.close(timeout=0)
            self._outstanding.fail_all()


def _settled(future: Future[Delivered], topic: str, outcome: Any) -> None:
    if isinstance(outcome, Exception):
        settle(future, _problem(topic, outcome))
    else:
        settle(future, Delivered(TopicPartition(topic, outcome.partition), outcome.offset))


def _missing(topic: str) -> TopicMissing:
    return TopicMissing(f"Topic {topic} does not exist.", remedy="`mesh deploy` creates the topics.")


def _problem(topic: str, error: Exception) -> LogError | LogUnavailable:
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return _missing(topic)
    if isinstance(error, (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)):
        return MessageTooLarge(f"The broker refused a message for topic {topic} as too large: {error}")
    if isinstance(error, kafka_errors.IllegalStateError):
        return DeliveryTimeout(remedy=PUBLISH_AGAIN)  # by _drop
    if getattr(error, "retriable", False):
        return LogUnavailable(f"Kafka did not take a record for topic {topic}: {error}")
    return DeliveryFailed(f"Kafka refused a record for topic {topic}: {error}")
