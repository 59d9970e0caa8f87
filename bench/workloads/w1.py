"""W1: the latest state of 20,000 contacts, from 200,000 updates in a topic of six partitions.

What is measured is an entity alone, without a view: the straight script writes one table too.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec
import psycopg

from bench.floor.w1 import CONTACT_COLUMNS, TOPIC
from bench.harness import Contender, run_module
from mesh_core.log import KafkaConfig, connect
from mesh_core.log.cloudevents import STRUCTURED_HEADERS

PARTITIONS = 6
DRIVERS = ("kafka-python", "confluent-kafka")
_FLUSH_EVERY = 20_000


def available_drivers() -> list[str]:
    """The clients that are installed here."""
    return [name for name in DRIVERS if name == "kafka-python" or importlib.util.find_spec("confluent_kafka")]


@dataclass(frozen=True)
class ContactUpdates:
    """`events` updates of `contacts` contacts, as many of each, in a random but repeatable order."""

    name: ClassVar[str] = "w1"
    events: int = 200_000
    contacts: int = 20_000

    def fill(self, bootstrap: str) -> None:
        """See `Workload.fill`."""
        driver = connect(KafkaConfig(bootstrap, driver=available_drivers()[-1]))
        with driver.admin() as admin:
            admin.delete_topic(TOPIC)
            admin.create_topic(TOPIC, PARTITIONS)
        encode = msgspec.json.Encoder().encode
        with driver.producer() as producer:
            for number, event in enumerate(self._history()):
                key = event["subject"].encode()
                producer.send(TOPIC, key, encode(event), headers=STRUCTURED_HEADERS)
                if number % _FLUSH_EVERY == 0:
                    producer.flush(60)
            producer.flush(60)

    def write_truth(self, connection: psycopg.Connection) -> None:
        """See `Workload.write_truth`."""
        connection.execute(f"CREATE TABLE truth ({CONTACT_COLUMNS})")
        last = self.events // self.contacts
        with connection.cursor().copy("COPY truth FROM STDIN") as copy:
            for contact in range(self.contacts):
                copy.write_row(list(_contact(contact, last).values()))

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        return [make(driver) for driver in available_drivers() for make in (_floor, _ours)]

    def _history(self) -> Iterator[dict[str, Any]]:
        order = [number % self.contacts for number in range(self.events)]
        random.Random(7).shuffle(order)
        versions = [0] * self.contacts
        began = datetime(2026, 1, 1, tzinfo=UTC)
        for number, contact in enumerate(order):
            versions[contact] += 1
            yield {
                "specversion": "1.0",
                "id": f"c{number:07d}-6f1c-4b7e-9d55-3c0a{number:08x}",
                "source": "/erp/contacts",
                "type": "erp.contact.updated.v1",
                "time": began + timedelta(seconds=number),
                "subject": str(contact),
                "datacontenttype": "application/json",
                "data": _contact(contact, versions[contact]),
            }


def _contact(contact: int, version: int) -> dict[str, Any]:
    return {
        "id": contact,
        "org_id": (contact * 7 + version // 5) % 1_000,
        "name": f"Contact {contact} revision {version}",
        "email": f"contact{contact}.{version}@example.com",
        "status": ("active", "lead", "dormant")[(contact + version) % 3],
        "version": version,
    }


def _floor(driver: str) -> Contender:
    return Contender(
        name=f"straight script {driver}",
        kind="floor",
        command=("-m", "bench.floor.w1"),
        progress="SELECT coalesce(sum(next_offset), 0) FROM checkpoint",
        rows="TABLE contact",
        prepare=lambda environment: run_module(environment, "bench.floor.w1", "prepare"),
        environment={"MESH_KAFKA_DRIVER": driver},
    )


def _ours(driver: str) -> Contender:
    return Contender(
        name=f"incremental {driver}",
        kind="ours",
        command=("-m", "bench.ours"),
        progress=f"SELECT coalesce(sum(next_offset), 0) FROM mesh.checkpoints "
        f"WHERE build = 0 AND topic = '{TOPIC}'",
        rows="SELECT id, org_id, name, email, status, version FROM read.erp_contact",
        prepare=_deploy,
        environment={
            "MESH_KAFKA_DRIVER": driver,
            "MESH_CATALOG": "bench.catalog",
            "MESH_PROJECTOR_METRICS_PORT": "0",
        },
    )


def _deploy(environment: Mapping[str, str]) -> None:
    run_module(environment, "mesh_core.cli", "migrate")
    run_module(environment, "mesh_core.cli", "deploy")
