"""How to reach Kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mesh_core.log.errors import LogConfigurationError
from mesh_core.settings import Settings

DriverName = Literal["kafka-python", "confluent-kafka"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Where Kafka is, how to sign in, and which client to use. `delivery_timeout` is in seconds."""

    bootstrap: str
    driver: str = "kafka-python"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    delivery_timeout: float = 30.0
    client_id: str = "flexmesh"
    linger_ms: int = 5
    """How long a producer waits for more to send along."""

    def __post_init__(self) -> None:
        _one_of("kafka_driver", self.driver, get_args(DriverName))
        _one_of("kafka_security_protocol", self.security_protocol, get_args(SecurityProtocol))
        if self.security_protocol.startswith("SASL") and not self.sasl_mechanism:
            raise LogConfigurationError(
                f"kafka_security_protocol {self.security_protocol} needs kafka_sasl_mechanism."
            )

    @classmethod
    def from_settings(cls, settings: Settings, bootstrap: str) -> KafkaConfig:
        """From the settings; `bootstrap` is `host:port[,host:port]`."""
        password = settings.kafka_sasl_password
        return cls(
            bootstrap=bootstrap,
            driver=settings.kafka_driver,
            security_protocol=settings.kafka_security_protocol,
            sasl_mechanism=settings.kafka_sasl_mechanism,
            sasl_username=settings.kafka_sasl_username,
            sasl_password=password.get_secret_value() if password else None,
            ssl_cafile=_text(settings.kafka_ssl_cafile),
            ssl_certfile=_text(settings.kafka_ssl_certfile),
            ssl_keyfile=_text(settings.kafka_ssl_keyfile),
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise LogConfigurationError(f"{name} is {value!r}, not one of {', '.join(allowed)}.")


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
