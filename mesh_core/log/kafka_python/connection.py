"""What every kafka-python client is told about the cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from mesh_core.log.config import KafkaConfig
from mesh_core.log.errors import LogError, LogUnavailable
from mesh_core.log.reach import reachable

# It logs every rebalance at WARNING, and while the broker is down several ERRORs a second.
logging.getLogger("kafka").setLevel(logging.ERROR)
for name in ("kafka.net", "kafka.cluster"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


def connection(config: KafkaConfig) -> dict[str, Any]:
    """The keyword arguments that the consumer, producer and admin clients share."""
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in config.bootstrap.split(",")],
        "client_id": config.client_id,
        "security_protocol": config.security_protocol,
        "bootstrap_timeout_ms": 5_000,
        "reconnect_backoff_max_ms": 1_000,
        "metadata_max_age_ms": 10_000,
    }
    if config.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = config.sasl_mechanism
        options["sasl_plain_username"] = config.sasl_username
        options["sasl_plain_password"] = config.sasl_password
    if config.security_protocol.endswith("SSL"):
        options["ssl_cafile"] = config.ssl_cafile
        options["ssl_certfile"] = config.ssl_certfile
        options["ssl_keyfile"] = config.ssl_keyfile
    return options


def build(config: KafkaConfig, make: Callable[..., Any], **options: Any) -> Any:
    """A client of the class `make`. Raises LogUnavailable if no broker answers."""
    inner: list[Any] = []

    def keep(**client_options: Any) -> Any:
        inner.append(KafkaNetClient(**client_options))
        return inner[-1]

    try:
        with reaching(config):
            if not reachable(config.bootstrap, timeout=2.0):
                raise kafka_errors.KafkaTimeoutError  # at once, where the client would try for long
            return make(**connection(config), **options, kafka_client=keep)
    except BaseException:
        for client in inner:  # kafka-python leaves its thread and sockets behind
            client.close()
        raise


@contextmanager
def reaching(config: KafkaConfig) -> Iterator[None]:
    """Turns kafka-python's errors into ours, for calls that wait for the cluster."""
    try:
        yield
    except (kafka_errors.SaslAuthenticationFailedError, kafka_errors.AuthorizationError) as error:
        raise LogError(
            f"Kafka at {config.bootstrap} refused the credentials: {error}",
            remedy="Check MESH_KAFKA_SASL_* and the permissions of the user.",
        ) from error
    except kafka_errors.KafkaError as error:
        if not isinstance(error, kafka_errors.KafkaTimeoutError) and not error.retriable:
            raise LogError(f"Kafka refused: {error}") from error
        raise LogUnavailable(
            f"Kafka at {config.bootstrap} does not answer.",
            remedy="Start it (`mesh stack up`), or check MESH_KAFKA_BOOTSTRAP_SERVERS.",
        ) from error
