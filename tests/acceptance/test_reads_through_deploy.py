"""Reads go on through a deploy that changes `order_overview`: none fails, none is wrong, and few are slower."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg
import pytest
from pydantic import SecretStr

from mesh_core.model import Catalog
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.settings import Settings
from mesh_core.store.versions import version_rows
from mesh_core.store.view_query import Tables, view_select
from tests.acceptance.orders.truth import history, placed
from tests.acceptance.reading import Reads, Waits
from tests.conftest import OwnStack
from tests.support.mesh import ROOT, Mesh
from tests.support.services import environment_of

BEFORE, AFTER = "tests.acceptance.orders.before", "tests.acceptance.orders.after"
WRITES_PER_SECOND = 20
Load = Callable[[Mesh], None]


def process(settings: Settings, *arguments: str, catalog: str = BEFORE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mesh_core.cli", *arguments],
        cwd=ROOT,
        env=environment_of(settings) | {"MESH_CATALOG": catalog, "MESH_LOG_LEVEL": "warning"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0, process.stdout.read() if process.stdout else ""


@contextmanager
def api(settings: Settings) -> Iterator[int]:
    """`mesh api` in a process of its own; its port."""
    with running(process(settings, "api", "--port", "0")) as served:
        assert served.stdout is not None
        line = served.stdout.readline()
        yield int(line.split("//")[1].split()[0].rpartition(":")[2])


@contextmanager
def writing(mesh: Mesh, orders: int) -> Iterator[None]:
    """Some orders are revised all the while."""
    stopping, choose = threading.Event(), random.Random(11)

    def write() -> None:
        revision = 0
        while not stopping.wait(1 / WRITES_PER_SECOND):
            revision += 1
            number = choose.randrange(orders)
            mesh.publish(placed(number, revision % 300), number)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)


def by_plain_sql(mesh: Mesh) -> None:
    """What fills, indexes and analyses the new rows, without Flexmesh."""
    catalog = Catalog.load(AFTER)
    with psycopg.connect(mesh.database_url, autocommit=True) as connection:
        live = {row.name: row.relation for row in version_rows(connection, "live") if row.kind == "entity"}
        select = view_select(catalog.views["order_overview"], Tables(catalog.entities, live))
        connection.execute(f"CREATE TABLE plain AS {select} WITH NO DATA")
        connection.execute(f"INSERT INTO plain {select}")
        connection.execute("ALTER TABLE plain ADD PRIMARY KEY (order_id)")
        connection.execute("ANALYZE plain")
        connection.execute("DROP TABLE plain")


def by_deploy(mesh: Mesh) -> None:
    with process(mesh.settings, "deploy", catalog=AFTER) as deploying:
        told, _ = deploying.communicate(timeout=1200)
    assert deploying.returncode == 0, told


@dataclass(frozen=True)
class Measured:
    """All reads, and when each kind of load began and ended."""

    reads: Reads
    spans: dict[str, list[tuple[float, float]]]

    def during(self, load: str) -> Waits:
        return Waits.of(
            [a for a in self.reads.answers for begun, ended in self.spans[load] if begun <= a.due < ended]
        )

    def __str__(self) -> str:
        lines = [
            f"{load:10} {sum(end - begin for begin, end in spans):6.1f} s  {self.during(load)}"
            for load, spans in self.spans.items()
        ]
        return "\n".join(["", *lines])


def read_through(settings: Settings, orders: int, loads: Sequence[Load], seconds: float) -> Measured:
    """Reads while so many `seconds` nothing else goes on, then while each of `loads` does."""
    mesh = Mesh(settings, Catalog.load(BEFORE))
    with mesh.driver.admin() as admin:
        for topic in (*mesh.catalog.topics, MESH_TOPIC):
            admin.create_topic(topic, mesh.partitions, 1)
    for number, event in enumerate(history(orders)):
        mesh.publisher.publish(event)
        if number % 20_000 == 0:
            mesh.publisher.flush()
    mesh.publisher.flush()
    mesh.deploy(processes=2)
    mesh.execute("VACUUM ANALYZE")
    spans: dict[str, list[tuple[float, float]]] = {}
    with running(process(settings, "projector")), api(settings) as port:
        with writing(mesh, orders), Reads(port, orders) as reads:
            time.sleep(seconds)  # connections are made, caches filled
            for load in (partial(rest, seconds), *loads):
                begun = time.monotonic()
                load(mesh)
                name = getattr(load, "func", load).__name__.removeprefix("by_").replace("_", " ")
                spans.setdefault(name, []).append((begun, time.monotonic()))
                time.sleep(seconds / 5)
        mesh.wait_caught_up()
        mesh.assert_sound()
    mesh.close()
    return Measured(reads, spans)


def rest(seconds: float, _: Mesh) -> None:
    time.sleep(seconds)


def test_reads_are_right_through_a_deploy(settings: Settings) -> None:
    measured = read_through(settings, 5_000, [by_deploy], 1)
    measured.reads.assert_right()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_reads_of_a_million_rows_are_right_and_fast_through_a_deploy(own_stack: OwnStack) -> None:
    settings = Settings(
        auth_anonymous_role="admin",
        database_url=SecretStr(own_stack.addresses.database_url),
        kafka_bootstrap_servers=own_stack.addresses.kafka_bootstrap_servers,
        kafka_driver="confluent-kafka",
        projector_metrics_port=0,
    )
    measured = read_through(settings, 1_000_000, [by_plain_sql, by_deploy, by_plain_sql], 10)
    print(measured)  # noqa: T201  # the figures of a soak: pytest -s
    measured.reads.assert_right()
    assert measured.during("deploy").p99 <= 2 * measured.during("plain sql").p99
