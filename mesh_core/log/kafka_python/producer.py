"""Writing with kafka-python."""

from __future__ import annotations

import contextlib
import threading
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
from mesh_core.log.outstanding import PUBLISH_AGAIN
from mesh_core.log.position import TopicPartition
from mesh_core.log.producer import ClientProducer, Settled
from mesh_core.log.reach import reachable

_NEVER_MS = 24 * 3600 * 1000
_ENDING = 2.0
_WATCH = 0.25


class KafkaPythonProducer(ClientProducer[Any]):
    """`mesh_core.log.Producer` on kafka-python's idempotent KafkaProducer.

    A batch that outlives kafka-python's own delivery timeout wedges its producer for good. So that timeout
    is out of reach; the deadline is ours, and after it the producer is dropped and the next send builds
    another.
    """

    def __init__(self, config: KafkaConfig) -> None:
        """Connects. Raises LogUnavailable if no broker answers."""
        super().__init__(config)
        self._watcher = threading.Thread(target=self._watch, name="log-producer-deadlines", daemon=True)
        self._watcher.start()

    def _build(self) -> Any:
        return build(
            self._config,
            KafkaProducer,
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            linger_ms=self._config.linger_ms,
            batch_size=128 * 1024,
            delivery_timeout_ms=_NEVER_MS,
            max_block_ms=5_000,
            request_timeout_ms=10_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def _hand_over(
        self,
        kafka: Any,
        settled: Settled,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None,
        headers: Headers,
        partition: int | None,
    ) -> None:
        try:
            sent = kafka.send(
                topic,
                value=value,
                key=key,
                headers=list(headers),
                partition=partition,
                timestamp_ms=timestamp_ms,
            )
        except kafka_errors.KafkaTimeoutError as error:
            if reachable(self._config.bootstrap, 1.0):  # it waited for news of the topic, and Kafka is there
                raise _missing(topic) from error
            raise _problem(topic, error) from error
        except kafka_errors.KafkaError as error:
            raise _problem(topic, error) from error
        sent.add_both(partial(_answered, settled, topic))

    def _knows(self, kafka: Any, topic: str) -> bool:
        return kafka._metadata.partitions_for_topic(topic) is not None

    def _end(self) -> None:
        self._watcher.join()
        self._drop()

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


def _answered(settled: Settled, topic: str, outcome: Any) -> None:
    if isinstance(outcome, Exception):
        settled(_problem(topic, outcome))
    else:
        settled(Delivered(TopicPartition(topic, outcome.partition), outcome.offset))


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
