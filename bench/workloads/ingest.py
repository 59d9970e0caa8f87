"""Events over HTTP, one a request, on 32 connections; beside a route that only produces to Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar
from uuid import uuid4

import psycopg

from bench.events_catalog import PaymentMade
from bench.harness import BenchmarkFailed, Contender, Figure, Kind, empty_database, process, run_module
from bench.load import drive, figures, post
from bench.workloads.reads import KEY, TOKEN, free_port, until_answered
from mesh_core.log import KafkaConfig, TopicPartition, connect
from mesh_core.stack import StackAddresses

SECONDS = 6.0
WARM_UP = 1.5
PARTITIONS = 4
DRIVERS = ("kafka-python", "confluent-kafka")


@dataclass(frozen=True)
class Ingest:
    """Events of so many accounts."""

    name: ClassVar[str] = "ingest"
    accounts: int = 20_000

    @property
    def events(self) -> int:
        """See `Workload.events`: as many as are answered."""
        return 0

    def fill(self, bootstrap: str) -> None:
        """See `Workload.fill`."""
        with connect(KafkaConfig(bootstrap)).admin() as admin:
            admin.create_topic(PaymentMade.topic, PARTITIONS)

    def write_truth(self, connection: psycopg.Connection) -> None:
        """See `Workload.write_truth`: what is in the log is counted instead."""

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        return [
            contender
            for driver in DRIVERS
            for contender in (
                _server(f"bare route {driver}", "floor", ("-m", "bench.floor.ingest"), driver),
                _server(f"mesh api {driver}", "ours", ("-m", "bench.serving"), driver),
            )
        ]

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`. Raises BenchmarkFailed unless every event that was answered is in the log."""
        with empty_database(contender, services) as environment:
            contender.prepare(environment)
            port = free_port()
            with process(contender, {**environment, "PORT": str(port)}):
                until_answered(port, "/livez" if contender.kind == "ours" else "/docs")
                before = in_log(services.kafka_bootstrap_servers)
                warm = drive(port, self._requests, WARM_UP, 202)
                taken = drive(port, self._requests, SECONDS, 202)
                there = in_log(services.kafka_bootstrap_servers) - before
            if there != len(warm) + len(taken):
                raise BenchmarkFailed(
                    f"{contender.name}: {there} events in the log, {len(warm) + len(taken)} answered."
                )
            return figures("event", taken, SECONDS)

    def _requests(self, connection: int) -> Iterator[bytes]:
        run = uuid4().hex
        for number in count(connection):
            account = str(number * 7919 % self.accounts)
            event = {
                "specversion": "1.0",
                "id": f"{run}-{number}",
                "source": "/payments",
                "type": PaymentMade.type,
                "subject": account,
                "time": "2026-01-01T00:00:00Z",
                "data": {
                    "account": account,
                    "amount": 12.5,
                    "currency": "EUR",
                    "note": "for tea, and what goes with it",
                },
            }
            headers = {"Content-Type": "application/cloudevents+json", "CE-Key": account}
            yield post("/v1/events", json.dumps(event).encode(), TOKEN, headers)


def in_log(bootstrap: str) -> int:
    """Events of the topic."""
    parts = [TopicPartition(PaymentMade.topic, number) for number in range(PARTITIONS)]
    with connect(KafkaConfig(bootstrap)).consumer() as consumer:
        return sum(consumer.end_offsets(parts).values())


def _server(name: str, kind: Kind, command: tuple[str, ...], driver: str) -> Contender:
    environment = {
        "MESH_CATALOG": "bench.events_catalog",
        "MESH_AUTH_KEY": KEY,
        "MESH_KAFKA_DRIVER": driver,
        "DRIVER": driver,
    }
    return Contender(name, kind, command, "", "", _deploy, environment)


def _deploy(environment: Mapping[str, str]) -> None:
    run_module(environment, "mesh_core.cli", "migrate")
    run_module(environment, "mesh_core.cli", "deploy")
