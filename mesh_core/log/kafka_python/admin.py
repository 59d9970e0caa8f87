"""Looking after topics with kafka-python."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from mesh_core.log.config import KafkaConfig
from mesh_core.log.interface import TopicFacts
from mesh_core.log.kafka_python.connection import build, reaching
from mesh_core.log.lifetime import Closing

_FORGETTING = 5.0
_KEEP_EVERYTHING = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "CreateTime",
}


class KafkaPythonAdmin(Closing):
    """`mesh_core.log.Admin` on kafka-python's KafkaAdminClient."""

    def __init__(self, config: KafkaConfig) -> None:
        """Connects. Raises LogUnavailable if no broker answers."""
        self._config = config
        self._kafka: Any = build(config, KafkaAdminClient, request_timeout_ms=10_000)

    def create_topic(self, name: str, partitions: int, replication: int = -1) -> TopicFacts:
        """See `Admin.create_topic`."""
        wanted = {
            name: {
                "num_partitions": partitions,
                "replication_factor": replication,
                "configs": _KEEP_EVERYTHING,
            }
        }
        with reaching(self._config):
            # Somebody else's identical request, just now or long ago, is as good as ours.
            with contextlib.suppress(kafka_errors.TopicAlreadyExistsError):
                self._kafka.create_topics(wanted)
            self._kafka.wait_for_topics([name])
        return self.describe([name])[name]

    def describe(self, names: Collection[str]) -> dict[str, TopicFacts]:
        """See `Admin.describe`."""
        if not names:
            return {}
        with reaching(self._config):
            found = [topic for topic in self._kafka.describe_topics(sorted(names)) if not topic["error_code"]]
            if not found:
                return {}
            configs = self._kafka.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic["name"]) for topic in found],
                config_filter="all",
            )
        return {
            topic["name"]: _facts(topic, known)
            for topic in found
            if (known := configs["topic"].get(topic["name"]))  # else it was deleted between the questions
        }

    def delete_topic(self, name: str) -> None:
        """See `Admin.delete_topic`."""
        with reaching(self._config), contextlib.suppress(kafka_errors.UnknownTopicOrPartitionError):
            self._kafka.delete_topics([name])
        deadline = time.monotonic() + _FORGETTING
        while self.describe([name]) and time.monotonic() < deadline:  # brokers hear of it a moment later
            time.sleep(0.05)

    def close(self) -> None:
        """See `Admin.close`."""
        self._kafka.close()


def _facts(topic: dict[str, Any], configs: dict[str, Any]) -> TopicFacts:
    return TopicFacts(
        name=topic["name"],
        topic_id=str(topic["topic_id"]),
        partitions=len(topic["partitions"]),
        cleanup_policy=_value(configs["cleanup.policy"]),
        retention_ms=int(_value(configs["retention.ms"])),
        retention_bytes=int(_value(configs["retention.bytes"])),
    )


def _value(config: Any) -> str:
    return str(config["value"] if isinstance(config, dict) else config)
