"""A mesh for a test: a catalog deployed on real Kafka and Postgres, events published, projectors run."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from mesh_core.emit.publisher import Publisher
from mesh_core.engine.checking import check
from mesh_core.engine.deploy import DeployReport, Topics, Wishes, deploy
from mesh_core.engine.projector import Projector
from mesh_core.engine.transaction import Applier
from mesh_core.log import Delivered, Driver, Headers, KafkaConfig, Producer, TopicPartition, connect
from mesh_core.model import Catalog, Event
from mesh_core.model.builtin import DeadLetterDecided
from mesh_core.settings import ROOT, Settings
from mesh_core.store import checkpoints, versions
from mesh_core.store.migrate import migrate
from tests.support.services import environment_of

OUTCOMES = ("consumed", "applied", "ignored", "dead_lettered", "parked")


class Outcomes(NamedTuple):
    """What became of records."""

    consumed: int = 0
    applied: int = 0
    ignored: int = 0
    dead_lettered: int = 0
    parked: int = 0


@dataclass
class Mesh:
    """A mesh of the test's own: `settings` name its Kafka, its database and its consumer group."""

    settings: Settings
    catalog: Catalog
    partitions: int = 3
    running: Running | None = None
    """The projector in this process, if one runs."""

    @property
    def database_url(self) -> str:
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    @cached_property
    def driver(self) -> Driver:
        assert self.settings.kafka_bootstrap_servers is not None
        return connect(KafkaConfig.from_settings(self.settings, self.settings.kafka_bootstrap_servers))

    @cached_property
    def producer(self) -> Producer:
        return self.driver.producer()

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.producer, source="/test")

    def close(self) -> None:
        """Let go of the producer, if there was one."""
        if "producer" in self.__dict__:
            self.producer.close()

    # ---- doing

    def deploy(
        self, catalog: Catalog | None = None, *, partitions: int | None = None, **how: Any
    ) -> DeployReport:
        """Migrate and deploy `catalog` (from then on the mesh's), making missing topics; `how` as `deploy` takes it."""
        self.catalog = catalog or self.catalog
        migrate(self.database_url)
        topics = Topics(partitions or self.partitions, 1)
        progress = how.pop("progress", lambda line: None)
        return deploy(self.database_url, self.catalog, self.driver, topics, progress, Wishes(**how))

    def publish(
        self, event: Event, key: object, *, sequence: int | None = None, workflow: UUID | None = None
    ) -> None:
        """Publish a typed event; `project` and `flush` see that it is in the log."""
        self.publisher.publish(event, key=str(key), sequence=sequence, workflow_id=workflow)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Delivered:
        """Write a record as it is, however bad; where it is in the log."""
        sent = self.producer.send(topic, key, value, headers=headers, partition=partition)
        self.producer.flush(30)
        return sent.result(10)

    def decide(self, letter: Delivered, action: str, value: bytes | None = None) -> None:
        """Publish what an operator decided about a dead letter."""
        topic = letter.partition.topic
        with self.driver.admin() as admin:
            topic_id = admin.describe([topic])[topic].topic_id
        decision = DeadLetterDecided.model_validate(
            {
                "letter_topic_id": topic_id,
                "letter_topic": topic,
                "letter_partition": letter.partition.partition,
                "letter_offset": letter.offset,
                "action": action,
                "value": None if value is None else value.decode(),
            }
        )
        self.publisher.publish(decision)
        self.publisher.flush()

    def project(self) -> None:
        """Apply all that is in the log, in this process."""
        if "publisher" in self.__dict__:
            self.publisher.flush()
        Projector(self.settings, self.database_url, self.driver).run_until_caught_up()

    @contextmanager
    def projecting(self) -> Iterator[Running]:
        """A projector that runs in a thread of its own; stopped afterwards, its error raised."""
        running = Running(Projector(self.settings, self.database_url, self.driver))
        running.thread.start()
        self.running = running
        try:
            yield running
        finally:
            self.running = None
            running.stop()

    def spawn(self) -> subprocess.Popen[bytes]:
        """`mesh projector` in a process of its own; end it with `terminate` or `kill`."""
        return subprocess.Popen(
            [sys.executable, "-m", "mesh_core.cli", "projector"],
            cwd=ROOT,
            env=environment_of(self.settings) | {"MESH_LOG_LEVEL": "warning"},
        )

    def wait_applied(self, *records: Delivered) -> None:
        """Wait until a running projector has passed these records."""

        def passed() -> bool:
            self._raise_of_running()
            at = checkpoints_of(self)
            return all(at[record.partition] > record.offset for record in records)

        wait_for(passed, what=f"applying {records}")

    def wait_caught_up(self) -> None:
        """Wait until a running projector has reached the end of the log as it is now."""
        if "publisher" in self.__dict__:
            self.publisher.flush()
        parts = list(checkpoints_of(self))
        with self.driver.consumer() as consumer:
            ends = consumer.end_offsets(parts)

        def reached() -> bool:
            self._raise_of_running()
            at = checkpoints_of(self)
            return all(at[part] >= end for part, end in ends.items())

        wait_for(reached, what="catching up")

    def wait_drained(self) -> None:
        """Wait until a running projector has done all that the fan-out queue has."""

        def drained() -> bool:
            self._raise_of_running()
            return not self.fan_outs()

        wait_for(drained, 60, "draining")

    def _raise_of_running(self) -> None:
        if self.running is not None and self.running.error is not None:
            raise self.running.error

    # ---- looking

    def query(self, text: str, *values: Any, **named: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(text, named or values).fetchall()

    def execute(self, text: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(text)

    def rows(self, name: str) -> dict[Any, dict[str, Any]]:
        """Rows of a view, or of the stable name of an entity, by key (a tuple if it has several parts)."""
        models = {model.table: model.key for model in self.catalog.entities.values()}
        key = self.catalog.views[name].key if name in self.catalog.views else models[name]
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            found = connection.execute(f'SELECT * FROM read."{name}"').fetchall()
        return {row[key[0]] if len(key) == 1 else tuple(row[part] for part in key): row for row in found}

    def rows_of(self, name: str) -> list[dict[str, Any]]:
        """Rows of a relation in schema `read`, declared or not."""
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            return connection.execute(f'SELECT * FROM read."{name}"').fetchall()

    def outcomes(self, *topics: str) -> Outcomes:
        """Counters of these topics, or of all, added up."""
        sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in OUTCOMES)
        return Outcomes(
            *self.query(
                f"SELECT {sums} FROM mesh.checkpoints WHERE build = 0 AND (%s OR topic = ANY(%s))",
                not topics,
                list(topics),
            )[0]
        )

    def held(self, status: str | None = None) -> list[dict[str, Any]]:
        """Dead letters and parked events in the order of the log."""
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            return connection.execute(
                "SELECT * FROM mesh.held_events WHERE %(status)s::text IS NULL OR status = %(status)s "
                'ORDER BY topic, "partition", "offset", version_id',
                {"status": status},
            ).fetchall()

    def fan_outs(
        self, view: str | None = None
    ) -> list[tuple[str, list[Any], list[Any] | None, list[Any] | None]]:
        """(view, key, after, until) of the fan-out queue, of one view or of all."""
        return self.query(
            "SELECT name, key, after, until FROM mesh.fan_out JOIN mesh.versions ON versions.id = version_id "
            "WHERE %(view)s::text IS NULL OR name = %(view)s ORDER BY fan_out.id",
            view=view,
        )

    def halted(self) -> dict[str, str]:
        """Halted topics and why."""
        return dict(
            self.query(
                "SELECT DISTINCT topic, halted_reason FROM mesh.checkpoints WHERE halted_reason IS NOT NULL"
            )
        )

    def end(self) -> int:
        """How many records the topics of the catalog hold, those of aborted transactions included."""
        parts = list(checkpoints_of(self))
        with self.driver.consumer() as consumer:
            return sum(consumer.end_offsets(parts).values())

    def assert_sound(self) -> None:
        """Views equal their definitions, and every record is counted under one outcome, in every partition."""
        found = check(self.database_url)
        assert all(result.clean for result in found), [result for result in found if not result.clean]
        rows = self.query(
            f'SELECT topic, "partition", {", ".join(OUTCOMES)} FROM mesh.checkpoints WHERE build = 0'
        )
        for topic, partition, consumed, *others in rows:
            assert consumed == sum(others), (topic, partition, consumed, others)
            assert min(others) >= 0, (topic, partition, others)

    def applier(
        self, partitions: Collection[TopicPartition] = (), **how: Any
    ) -> tuple[psycopg.Connection[Any], Applier]:
        """A connection of its own, and an applier on it that has taken these partitions over; `how` as it takes it."""
        connection = psycopg.connect(self.database_url, autocommit=True)
        plan = versions.live_plan(connection)
        taken = checkpoints.take_over(connection, partitions)
        return connection, Applier(connection, plan, {part: row.fence for part, row in taken.items()}, **how)


@dataclass
class Running:
    """A projector in a thread."""

    projector: Projector
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.projector.run()
        except BaseException as error:
            self.error = error

    def stop(self) -> float:
        """Stop it; the seconds that took. Raises what the projector raised."""
        begun = time.monotonic()
        self.projector.stop()
        self.thread.join(30)
        assert not self.thread.is_alive(), "the projector did not stop"
        if self.error is not None:
            raise self.error
        return time.monotonic() - begun


def checkpoints_of(mesh: Mesh) -> Mapping[TopicPartition, int]:
    """The live checkpoints."""
    rows = mesh.query('SELECT topic, "partition", next_offset FROM mesh.checkpoints WHERE build = 0')
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}


def wait_for(holds: Callable[[], bool], seconds: float = 45.0, what: str = "it") -> None:
    """Return once `holds()`; fail the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)
