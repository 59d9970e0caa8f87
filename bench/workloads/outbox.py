"""Rows of an outbox, relayed; beside a script that reads, sends and marks them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import psycopg

from bench.events_catalog import PaymentMade
from bench.harness import BenchmarkFailed, Contender, Figure, Kind, database
from bench.workloads.ingest import DRIVERS, PARTITIONS, in_log
from mesh_core.emit.outbox import outbox_sql
from mesh_core.log import KafkaConfig, connect
from mesh_core.settings import ROOT
from mesh_core.stack import StackAddresses


@dataclass(frozen=True)
class Outbox:
    """So many rows of so many aggregates."""

    name: ClassVar[str] = "outbox"
    rows: int = 200_000
    accounts: int = 20_000

    @property
    def events(self) -> int:
        """See `Workload.events`."""
        return self.rows

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
                _program(f"straight script {driver}", "floor", ("-m", "bench.floor.relay"), driver),
                _program(
                    f"mesh relay {driver}", "ours", ("-m", "mesh_core.cli", "relay", "--until-empty"), driver
                ),
            )
        ]

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`. Raises BenchmarkFailed unless each row is in the log once."""
        with database(services.database_url) as url:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(outbox_sql())
                connection.execute(
                    "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) SELECT 'account', n %% %s, %s, "
                    "jsonb_build_object('account', (n %% %s)::text, 'amount', 12.50, 'currency', 'EUR', 'note', "
                    "'for tea, and what goes with it') FROM generate_series(1, %s) n",
                    (self.accounts, PaymentMade.type, self.accounts, self.rows),
                )
                connection.execute("VACUUM ANALYZE outbox")
                connection.execute("CHECKPOINT")
                before = in_log(services.kafka_bootstrap_servers)
                seconds = _run(contender, url, services, connection)
            if (there := in_log(services.kafka_bootstrap_servers) - before) != self.rows:
                raise BenchmarkFailed(f"{contender.name}: {there} events in the log of {self.rows} rows.")
            return [Figure("", self.rows / seconds, "events/s")]


def _run(contender: Contender, url: str, services: StackAddresses, connection: psycopg.Connection) -> float:
    """Seconds from its first look at the outbox to its end."""
    environment = {
        **os.environ,
        **contender.environment,
        "MESH_KAFKA_BOOTSTRAP_SERVERS": services.kafka_bootstrap_servers,
        "MESH_RELAY_OUTBOXES": f"payments={url}",
        "MESH_RELAY_METRICS_PORT": "0",
        "MESH_LOG_LEVEL": "warning",
        "OUTBOX_URL": url,
    }
    with subprocess.Popen([sys.executable, *contender.command], env=environment, cwd=ROOT) as running:
        begun = 0.0
        while running.poll() is None:
            if not begun and connection.execute("SELECT FROM outbox_relay").rowcount:
                begun = time.perf_counter()
            time.sleep(0.01)
    if running.returncode or not begun:
        raise BenchmarkFailed(f"{contender.name} ended with status {running.returncode}.")
    return time.perf_counter() - begun


def _program(name: str, kind: Kind, command: tuple[str, ...], driver: str) -> Contender:
    environment = {"MESH_KAFKA_DRIVER": driver, "DRIVER": driver}
    return Contender(name, kind, command, "", "", lambda _: None, environment)
