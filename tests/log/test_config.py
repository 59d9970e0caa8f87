from __future__ import annotations

import sys
from pathlib import Path

import confluent_kafka
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from pydantic import SecretStr

from mesh_core.log import KafkaConfig, LogConfigurationError, connect
from mesh_core.log.confluent.connection import connection as confluent_options
from mesh_core.log.kafka_python.connection import connection as kafka_python_options
from mesh_core.settings import Settings

SECURE = KafkaConfig(
    "a:1, b:2",
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="mesh",
    sasl_password="secret",
)


def test_it_comes_from_the_settings(tmp_path: Path) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    settings = Settings(
        kafka_driver="confluent-kafka",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username="mesh",
        kafka_sasl_password=SecretStr("secret"),
        kafka_ssl_cafile=certificate,
    )
    assert KafkaConfig.from_settings(settings, "a:1") == KafkaConfig(
        "a:1",
        driver="confluent-kafka",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="mesh",
        sasl_password="secret",
        ssl_cafile=str(certificate),
    )


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(SECURE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"driver": "librdkafka"}, "kafka_driver is 'librdkafka', not one of kafka-python, confluent-kafka"),
        ({"security_protocol": "TLS"}, "kafka_security_protocol is 'TLS'"),
        ({"security_protocol": "SASL_SSL"}, "needs kafka_sasl_mechanism"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(LogConfigurationError, match=message):
        KafkaConfig("a:1", **arguments)  # type: ignore[arg-type]


def test_every_client_knows_the_options_of_a_secure_cluster() -> None:
    options = kafka_python_options(SECURE)
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["sasl_plain_password"] == "secret"
    for client in (KafkaConsumer, KafkaProducer, KafkaAdminClient):
        assert options.keys() <= client.DEFAULT_CONFIG.keys()
    confluent_kafka.Producer(confluent_options(SECURE)).purge()  # it raises for an option it does not know


def test_the_fast_driver_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(LogConfigurationError, match=r"pip install flexmesh\[fast\]"):
        connect(KafkaConfig("a:1", driver="confluent-kafka"))
