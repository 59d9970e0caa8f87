"""Writes histories to topics."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable

import msgspec

from bench.history import Record
from mesh_core.log import KafkaConfig, connect
from mesh_core.log.cloudevents import STRUCTURED_HEADERS

PARTITIONS = 6
DRIVERS = ("kafka-python", "confluent-kafka")
_FLUSH_EVERY = 20_000


def available_drivers() -> list[str]:
    """The clients that are installed here."""
    return [name for name in DRIVERS if name == "kafka-python" or importlib.util.find_spec("confluent_kafka")]


def make_topics(bootstrap: str, topics: Collection[str]) -> None:
    """These topics anew, empty."""
    with connect(KafkaConfig(bootstrap)).admin() as admin:
        for topic in topics:
            admin.delete_topic(topic)
            admin.create_topic(topic, PARTITIONS)


def fill(bootstrap: str, topics: Collection[str], records: Iterable[Record]) -> None:
    """Make the topics anew and write the records."""
    make_topics(bootstrap, topics)
    encode = msgspec.json.Encoder().encode
    with connect(KafkaConfig(bootstrap, driver=available_drivers()[-1])).producer() as producer:
        for number, (topic, key, event) in enumerate(records, 1):
            producer.send(topic, key.encode(), encode(event), headers=STRUCTURED_HEADERS)
            if number % _FLUSH_EVERY == 0:
                producer.flush(60)
        producer.flush(60)
