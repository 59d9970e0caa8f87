"""What every confluent-kafka client is told about the cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # public all the same

from mesh_core.log.config import KafkaConfig
from mesh_core.log.errors import LogUnavailable
from mesh_core.log.position import TopicPartition
from mesh_core.log.reach import reachable

_ANSWER = 5.0

# It logs every refused connection, twenty a second; what matters comes as an error event.
logging.getLogger("confluent_kafka").setLevel(logging.CRITICAL)


def connection(config: KafkaConfig) -> dict[str, Any]:
    """The options that consumer and producer share."""
    options: dict[str, Any] = {
        "bootstrap.servers": config.bootstrap,
        "client.id": config.client_id,
        "security.protocol": config.security_protocol,
        "reconnect.backoff.max.ms": 1_000,
        "topic.metadata.refresh.interval.ms": 10_000,
        "logger": logging.getLogger("confluent_kafka"),
    }
    if config.security_protocol.startswith("SASL"):
        options["sasl.mechanism"] = config.sasl_mechanism
        options["sasl.username"] = config.sasl_username
        options["sasl.password"] = config.sasl_password
    for name, path in (
        ("ssl.ca.location", config.ssl_cafile),
        ("ssl.certificate.location", config.ssl_certfile),
        ("ssl.key.location", config.ssl_keyfile),
    ):
        if path and config.security_protocol.endswith("SSL"):
            options[name] = path
    return options


# What a broker answers while a partition gets its leader, as one does that was just made: it passes.
_ELECTING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
_SPEC: Any = OffsetSpec  # it has no types


def admin(config: KafkaConfig) -> AdminClient:
    """A client that asks the cluster questions, on a connection of its own; it needs no closing."""
    return AdminClient(connection(config) | {"error_cb": lambda _: None})


def earliest_offsets(
    client: AdminClient, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """Where the log of each partition begins. Raises KafkaException."""
    return _offsets(client, partitions, _SPEC.earliest())


def latest_offsets(client: AdminClient, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the committed log of each partition ends. Raises KafkaException."""
    return _offsets(client, partitions, _SPEC.latest())


def _offsets(
    client: AdminClient, partitions: Collection[TopicPartition], spec: Any
) -> dict[TopicPartition, int]:
    found: dict[TopicPartition, int] = {}
    until = time.monotonic() + _ANSWER
    while missing := [part for part in partitions if part not in found]:
        answers = client.list_offsets(
            {KafkaPartition(part.topic, part.partition): spec for part in missing},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=_ANSWER,
        )
        for part, answer in answers.items():
            try:
                found[TopicPartition(part.topic, part.partition)] = answer.result().offset
            except KafkaException as error:
                if error.args[0].code() not in _ELECTING or time.monotonic() > until:
                    raise
        if len(found) < len(partitions):
            time.sleep(0.1)
    return found


def reach(config: KafkaConfig, client: Consumer | Producer) -> None:
    """Wait until a broker answers. Raises LogUnavailable if none does."""
    try:
        if reachable(config.bootstrap, timeout=2.0):
            client.list_topics(timeout=_ANSWER)
            return
        cause = None
    except KafkaException as error:
        cause = error
    raise LogUnavailable(
        f"Kafka at {config.bootstrap} does not answer" + (f": {cause}" if cause else "."),
        remedy="Start it (`mesh stack up`), or check MESH_KAFKA_BOOTSTRAP_SERVERS and the credentials.",
    ) from cause
