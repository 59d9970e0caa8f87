"""Writing with confluent-kafka."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from mesh_core.log.config import KafkaConfig
from mesh_core.log.confluent.connection import admin, connection, latest_offsets, reach
from mesh_core.log.confluent.first_batches import ANY, FirstAlone, Sending
from mesh_core.log.errors import (
    DeliveryFailed,
    DeliveryTimeout,
    LogError,
    LogUnavailable,
    MessageTooLarge,
    TopicMissing,
)
from mesh_core.log.interface import Delivered, Headers
from mesh_core.log.outstanding import PUBLISH_AGAIN
from mesh_core.log.position import TopicPartition
from mesh_core.log.producer import ClientProducer, Settled


class ConfluentProducer(ClientProducer[FirstAlone]):
    """`mesh_core.log.Producer` on confluent-kafka's idempotent Producer."""

    def __init__(self, config: KafkaConfig) -> None:
        """Connects. Raises LogUnavailable if no broker answers."""
        super().__init__(config)
        reach(config, self._current().kafka)
        self._server = threading.Thread(target=self._serve, name="log-producer-delivery", daemon=True)
        self._server.start()

    def _build(self) -> FirstAlone:
        kafka = Producer(
            connection(self._config)
            | {
                "enable.idempotence": True,
                "acks": "all",
                "max.in.flight.requests.per.connection": 5,
                "partitioner": "murmur2_random",  # what the Java client and kafka-python do
                "compression.type": "lz4",
                "linger.ms": self._config.linger_ms,
                "message.timeout.ms": int(self._config.delivery_timeout * 1000),
                "message.max.bytes": 1_048_576,
                "topic.metadata.propagation.max.ms": 5_000,
                "queue.buffering.max.messages": 10_000_000,  # what bounds the queue is Outstanding
                "queue.buffering.max.kbytes": 256 * 1024,
            }
        )
        return FirstAlone(kafka)

    def _hand_over(
        self,
        kafka: FirstAlone,
        settled: Settled,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None,
        headers: Headers,
        partition: int | None,
    ) -> None:
        answered = partial(self._answered, kafka, settled)
        try:
            kafka.produce(
                Sending(
                    topic,
                    key,
                    value,
                    timestamp_ms,
                    headers,
                    ANY if partition is None else partition,
                    answered,
                )
            )
        except (KafkaException, BufferError) as error:
            cause = error.args[0] if isinstance(error, KafkaException) else error
            raise _problem(topic, cause) from error

    def _knows(self, kafka: FirstAlone, topic: str) -> bool:
        return kafka.knows(topic)

    def _end(self) -> None:
        self._server.join()
        self._outstanding.fail_all()
        if self._kafka is not None:
            self._kafka.kafka.purge()
            self._kafka = None

    def _serve(self) -> None:
        while not self._closed.is_set():
            kafka = self._kafka
            if kafka is None:
                self._closed.wait(0.1)
            else:
                kafka.kafka.poll(0.1)

    def _answered(self, kafka: FirstAlone, settled: Settled, error: Any, record: Any) -> None:
        if error is None:
            part = TopicPartition(record.topic(), record.partition())
            settled(self._delivered(part, record.offset()))
            return
        kafka.forget(record.topic())
        settled(_problem(record.topic(), error))
        if error.fatal():
            with self._lock:
                self._kafka = None  # the next send builds another

    def _delivered(self, part: TopicPartition, offset: int | None) -> Delivered | LogError:
        """Where the record is.

        A broker that had it already does not say where. Then it is the last record of now: who waits for that one has
        waited for this.
        """
        if offset is not None and offset >= 0:
            return Delivered(part, offset)
        try:
            return Delivered(part, latest_offsets(admin(self._config), [part])[part] - 1)
        except KafkaException as error:
            return DeliveryFailed(f"Kafka took a record for {part}, but does not say where it is: {error}")


def _problem(topic: str, error: Any) -> LogError | LogUnavailable:
    code = error.code() if isinstance(error, KafkaError) else None
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return TopicMissing(f"Topic {topic} does not exist.", remedy="`mesh deploy` creates the topics.")
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return MessageTooLarge(f"The broker refused a message for topic {topic} as too large: {error}")
    if code in (KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
        return DeliveryTimeout(remedy=PUBLISH_AGAIN)
    if isinstance(error, BufferError) or (isinstance(error, KafkaError) and error.retriable()):
        return LogUnavailable(f"Kafka did not take a record for topic {topic}: {error}")
    return DeliveryFailed(f"Kafka refused a record for topic {topic}: {error}")
