"""A view of a million events, replayed; beside the bulk build of the same, and while 500 live events a second are projected.

Both read in one process. How late live events are is taken from when Kafka had acknowledged them to when their checkpoint
was committed, which their rows commit with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, ClassVar

import msgspec
import psutil
import psycopg
from pyarrow import parquet

from bench.filling import fill
from bench.harness import BenchmarkFailed, Contender, Figure, empty_database, memory_of, process, run_module
from bench.history import CONTACT_TOPIC, INVOICE_TOPIC, ORGANISATION_TOPIC, ThreeServices
from bench.workloads.w2 import CATALOG, three_services
from mesh_core.log import Delivered, KafkaConfig, Producer, TopicPartition, connect
from mesh_core.log.cloudevents import STRUCTURED_HEADERS
from mesh_core.settings import ROOT
from mesh_core.stack import StackAddresses

RATE = 500
VIEW = "contact_overview"
BUILD, REPLAY, BESIDE = "mesh deploy", "mesh replay", f"mesh replay beside {RATE} live events/s"
_MEGABYTE = 1_000_000
_LOOK = 0.005
_PATIENCE = 120.0


@dataclass(frozen=True)
class Replays:
    """`services` is the history; the view joins all three."""

    name: ClassVar[str] = "replay"
    services: ThreeServices = field(default_factory=lambda: three_services(3))

    @property
    def events(self) -> int:
        """See `Workload.events`."""
        return self.services.events

    def fill(self, bootstrap: str) -> None:
        """See `Workload.fill`."""
        fill(bootstrap, [ORGANISATION_TOPIC, CONTACT_TOPIC, INVOICE_TOPIC], self.services.records())

    def write_truth(self, connection: psycopg.Connection) -> None:
        """See `Workload.write_truth`: replayed rows are compared with those that serve."""

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        return [
            Contender(name, "floor" if name == BUILD else "ours", (), "", "", lambda _: None, _ENVIRONMENT)
            for name in (BUILD, REPLAY, BESIDE)
        ]

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`. Raises BenchmarkFailed unless the rows are those that serve."""
        with empty_database(contender, services) as environment:
            run_module(environment, "mesh_core.cli", "migrate")
            begun = time.perf_counter()
            run_module(environment, "mesh_core.cli", "deploy")
            if contender.name == BUILD:
                return [Figure("", self.events / (time.perf_counter() - begun), "events/s")]
            if contender.name == REPLAY:
                done, peak = _replay(environment, checked=True)
                return [_rate(done), Figure("memory", peak / _MEGABYTE, "MB")]
            return self._beside(environment, services)

    def _beside(self, environment: Mapping[str, str], services: StackAddresses) -> list[Figure]:
        projector = Contender(
            "projector", "ours", ("-m", "mesh_core.cli", "projector"), "", "", lambda _: None
        )
        with ExitStack() as stack:
            stack.enter_context(process(projector, environment))
            producer = stack.enter_context(connect(KafkaConfig(services.kafka_bootstrap_servers)).producer())
            live = _Live(self.services, producer, environment["MESH_DATABASE_URL"])
            stack.callback(live.stop)
            live.start()
            live.until_seen()
            done, peak = _replay(environment)
            live.stop()
        late = [1000 * each for each in live.late]
        percentiles = quantiles(late, n=100, method="inclusive")
        return [
            _rate(done),
            Figure("memory", peak / _MEGABYTE, "MB"),
            Figure("live p50", percentiles[49], "ms"),
            Figure("live p99", percentiles[98], "ms"),
            Figure("live latest", max(late), "ms"),
        ]


_ENVIRONMENT = {
    "MESH_CATALOG": CATALOG,
    "MESH_KAFKA_DRIVER": "confluent-kafka",
    "MESH_BUILD_PROCESSES": "1",
    "MESH_REPLAY_PROCESSES": "1",
    "MESH_PROJECTOR_METRICS_PORT": "0",
}


def _replay(environment: Mapping[str, str], *, checked: bool = False) -> tuple[dict[str, Any], int]:
    """What `mesh replay` says that it did, and the most memory that one of its processes had, in bytes.

    `checked`: the rows of its file are compared with those that serve, which nothing changes meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "rows.parquet"
        command = [sys.executable, "-m", "mesh_core.cli", "replay", VIEW, "--to", str(target), "--json"]
        started = psutil.Popen(command, env=dict(environment), cwd=ROOT, stdout=subprocess.PIPE)
        peak = 0
        while started.poll() is None:
            peak = max(peak, memory_of(started))
            time.sleep(0.1)
        said = started.stdout.read() if started.stdout is not None else b""
        if started.returncode != 0:
            raise BenchmarkFailed(f"mesh replay ended with status {started.returncode}.")
        if checked:
            _check(target, environment["MESH_DATABASE_URL"])
    return json.loads(said), peak


def _check(file: Path, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        served = connection.execute(f"SELECT * FROM read.{VIEW} ORDER BY id".encode()).fetchall()
    if [tuple(row.values()) for row in parquet.read_table(file).to_pylist()] != served:
        raise BenchmarkFailed("Replayed rows differ from those that serve.")


def _rate(done: Mapping[str, Any]) -> Figure:
    return Figure("", done["events"] / done["seconds"], "events/s")


class _Live:
    """Publishes updates of contacts at a rate, and sees when each is applied."""

    def __init__(self, services: ThreeServices, producer: Producer, database_url: str) -> None:
        self.late: list[float] = []
        self._things, self._producer, self._url = services.contacts, producer, database_url
        self._sent: dict[TopicPartition, dict[int, float]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._watch)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop sending, and wait until all that was sent is seen."""
        self._ended.set()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def until_seen(self) -> None:
        """Wait until some have been applied; those before are not counted."""
        deadline = time.perf_counter() + _PATIENCE
        while len(self.late) < RATE:
            if time.perf_counter() > deadline:
                raise BenchmarkFailed("The projector applied nothing.")
            time.sleep(0.05)
        time.sleep(1.0)
        self.late.clear()

    def _send(self) -> None:
        encode, began, number = msgspec.json.Encoder().encode, time.perf_counter(), 0
        revision = self._things.events
        while not self._ended.is_set():
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            topic, key, event = self._things.record(
                revision + number, number % self._things.count, revision, datetime.now(UTC)
            )
            sent = self._producer.send(topic, key.encode(), encode(event), headers=STRUCTURED_HEADERS)
            sent.add_done_callback(partial(self._note))
            number += 1
        self._producer.flush(10)

    def _note(self, sent: Future[Delivered]) -> None:
        if sent.exception() is None:
            with self._lock:
                self._sent.setdefault(sent.result().partition, {})[sent.result().offset] = time.perf_counter()

    def _watch(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            deadline = None
            while True:
                rows = connection.execute(
                    'SELECT "partition", next_offset FROM mesh.checkpoints WHERE build = 0 AND topic = %s',
                    (CONTACT_TOPIC,),
                ).fetchall()
                now = time.perf_counter()
                with self._lock:
                    for number, reached in rows:
                        waiting = self._sent.get(TopicPartition(CONTACT_TOPIC, number), {})
                        for offset in [offset for offset in waiting if offset < reached]:
                            self.late.append(now - waiting.pop(offset))
                    left = any(self._sent.values())
                if self._ended.is_set() and not self._threads[0].is_alive():
                    deadline = deadline or now + _PATIENCE
                    if not left or now > deadline:
                        return
                time.sleep(_LOOK)
