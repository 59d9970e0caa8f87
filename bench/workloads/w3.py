"""W3: how long after Kafka acknowledged an event its row is visible through SQL, at 500 events a second for 20 s.

Every event is of a contact of its own, so each row tells of one event.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import quantiles
from typing import ClassVar

import msgspec
import psycopg

from bench.filling import make_topics
from bench.floor.payloads import CONTACT_COLUMNS
from bench.harness import BenchmarkFailed, Contender, Figure, Run, running
from bench.history import CONTACT_TOPIC, Things, contacts
from bench.workloads.w1 import latest_state
from mesh_core.log import KafkaConfig, connect
from mesh_core.log.cloudevents import STRUCTURED_HEADERS
from mesh_core.log.interface import Delivered, Producer
from mesh_core.stack import StackAddresses

_LOOK = 0.001
_PATIENCE = 60.0
_PAUSE = 0.2


@dataclass(frozen=True)
class Freshness:
    """`seconds` of `rate` events a second, after as many to warm up as there are in half a second."""

    name: ClassVar[str] = "w3"
    rate: int = 500
    seconds: float = 20.0

    @property
    def warm_up(self) -> int:
        """How many events are not measured."""
        return self.rate // 2

    @property
    def events(self) -> int:
        """See `Workload.events`."""
        return self.warm_up + int(self.rate * self.seconds)

    @property
    def history(self) -> Things:
        """One update of each of so many contacts."""
        return contacts(self.events, self.events)

    def fill(self, bootstrap: str) -> None:
        """See `Workload.fill`: events are written while they are awaited."""

    def write_truth(self, connection: psycopg.Connection) -> None:
        """See `Workload.write_truth`."""
        connection.execute(f"CREATE TABLE truth ({CONTACT_COLUMNS})")
        with connection.cursor().copy("COPY truth FROM STDIN") as copy:
            for state in self.history.final():
                copy.write_row(list(state.values()))

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        return latest_state(self.events)

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`."""
        make_topics(services.kafka_bootstrap_servers, [CONTACT_TOPIC])
        with (
            running(self, contender, services) as run,
            connect(KafkaConfig(services.kafka_bootstrap_servers)).producer() as producer,
        ):
            sender = Sender(self.history, producer)
            _until_begun(run, contender)
            sender.send(range(self.warm_up), self.rate)
            Watcher(run, contender).until(self.warm_up)
            time.sleep(_PAUSE)
            sending = threading.Thread(
                target=sender.send, args=(range(self.warm_up, self.events), self.rate), daemon=True
            )
            sending.start()
            seen = Watcher(run, contender, self.warm_up).until(self.events)
            sending.join()
            producer.flush(10)
        waits = [1000 * max(0.0, seen[key] - sender.acknowledged[key]) for key in seen]
        percentiles = quantiles(waits, n=100, method="inclusive")
        return [Figure("p50", percentiles[49], "ms"), Figure("p99", percentiles[98], "ms")]


class Sender:
    """Publishes updates at a rate and remembers when each was acknowledged."""

    def __init__(self, history: Things, producer: Producer) -> None:
        self.acknowledged: dict[int, float] = {}
        self._history = history
        self._producer = producer
        self._encode = msgspec.json.Encoder().encode

    def send(self, numbers: range, rate: int) -> None:
        """These, evenly spaced."""
        began = time.perf_counter()
        for place, number in enumerate(numbers):
            time.sleep(max(0.0, began + place / rate - time.perf_counter()))
            topic, key, event = self._history.record(number, number, 1, datetime.now(UTC))
            sent = self._producer.send(topic, key.encode(), self._encode(event), headers=STRUCTURED_HEADERS)
            sent.add_done_callback(partial(self._note, number))

    def _note(self, number: int, sent: Future[Delivered]) -> None:
        if sent.exception() is None:
            self.acknowledged[number] = time.perf_counter()


class Watcher:
    """Looks into the table for contacts from `first` on, as often as it can without being a burden."""

    def __init__(self, run: Run, contender: Contender, first: int = 0) -> None:
        self._run = run
        self._contender = contender
        self._lowest = first
        self._seen: dict[int, float] = {}

    def until(self, last: int) -> dict[int, float]:
        """When each up to `last` was first seen. Raises BenchmarkFailed if one never is."""
        select = f"SELECT id FROM ({self._contender.rows}) AS rows WHERE id >= %s"
        given_up = 0.0
        while self._lowest < last:
            rows = self._run.connection.execute(select, [self._lowest]).fetchall()
            now = time.perf_counter()
            for (key,) in rows:
                self._seen.setdefault(key, now)
            while self._lowest in self._seen:
                self._lowest += 1
            given_up = now + _PATIENCE if rows or not given_up else given_up
            if now > given_up or self._run.process.poll() is not None:
                raise BenchmarkFailed(f"{self._contender.name}: contact {self._lowest} was never seen.")
            time.sleep(_LOOK)
        return self._seen


def _until_begun(run: Run, contender: Contender) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while not (run.began.is_file() and run.began.read_text()):
        if time.perf_counter() > deadline or run.process.poll() is not None:
            raise BenchmarkFailed(f"{contender.name} did not begin.")
        time.sleep(0.05)
