"""Runs one contender on one workload, as a process of its own, and checks every row that it made."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psutil
import psycopg
from psycopg import sql

from mesh_core.errors import MeshError
from mesh_core.settings import ROOT
from mesh_core.stack import StackAddresses

Kind = Literal["ours", "floor", "peer"]
BEGAN = "BENCH_BEGAN"
"""The variable that names the file into which a contender writes time.time() when it begins to consume."""
_PAUSE = 0.01
_PATIENCE = 300.0


class BenchmarkFailed(MeshError):
    """A contender did not finish, or made wrong rows: its rate would mean nothing."""


@dataclass(frozen=True)
class Contender:
    """One program that does a workload's job.

    `command` follows the Python interpreter; `environment` names a database and a broker as `MESH_…`
    variables do, which are always set. `progress` is SQL for the events that are in the table for good,
    `rows` SQL for the table itself, in the columns of the truth. `prepare` makes the empty tables.
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    progress: str
    rows: str
    prepare: Callable[[Mapping[str, str]], None]
    environment: Mapping[str, str] = field(default_factory=dict)


class Workload(Protocol):
    """A topic to fill, the rows that must come of it, and who competes."""

    @property
    def name(self) -> str: ...

    @property
    def events(self) -> int:
        """How many events the topic holds."""

    def fill(self, bootstrap: str) -> None:
        """Write the topic anew."""

    def write_truth(self, connection: psycopg.Connection) -> None:
        """Make the table `truth`."""

    def contenders(self) -> Sequence[Contender]:
        """Everybody who can run here, in the order in which they take turns."""


@dataclass(frozen=True)
class Measure:
    """What one run took: seconds from the beginning of consuming to the final table, bytes at the peak."""

    seconds: float
    peak_memory: int


def measure(workload: Workload, contender: Contender, services: StackAddresses) -> Measure:
    """One run in an empty database. Raises BenchmarkFailed unless every row is right."""
    with _database(services.database_url) as url, tempfile.TemporaryDirectory() as folder:
        began = Path(folder) / "began"
        environment = {
            **os.environ,
            "MESH_DATABASE_URL": url,
            "MESH_KAFKA_BOOTSTRAP_SERVERS": services.kafka_bootstrap_servers,
            "MESH_GROUP": f"bench-{uuid4().hex[:8]}",
            "MESH_LOG_LEVEL": "warning",
            BEGAN: str(began),
            **contender.environment,
        }
        with psycopg.connect(url, autocommit=True) as connection:
            workload.write_truth(connection)
            contender.prepare(environment)
            # What earlier runs left to write must not slow this one down.
            connection.execute("CHECKPOINT")
            with _process(contender, environment) as process:
                final, peak = _watch(workload, contender, connection, process)
            _check(workload, contender, connection)
        return Measure(final - float(began.read_text()), peak)


def run_module(environment: Mapping[str, str], *arguments: str) -> None:
    """Runs `python -m …` to its end. Raises BenchmarkFailed with its output if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=dict(environment), cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BenchmarkFailed(f"{' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _watch(
    workload: Workload, contender: Contender, connection: psycopg.Connection, process: psutil.Popen
) -> tuple[float, int]:
    """The time at which the table was final, and the most memory seen by then."""
    deadline = time.time() + _PATIENCE
    peak = 0
    while True:
        row = connection.execute(contender.progress).fetchone()
        now = time.time()
        if row is not None and row[0] == workload.events:
            return now, peak
        if process.poll() is not None:
            raise BenchmarkFailed(f"{contender.name} ended with status {process.returncode}.")
        if now > deadline:
            raise BenchmarkFailed(f"{contender.name} was not done after {_PATIENCE:.0f} s: {row}.")
        with suppress(psutil.NoSuchProcess):
            peak = max(peak, process.memory_info().rss)
        time.sleep(_PAUSE)


def _check(workload: Workload, contender: Contender, connection: psycopg.Connection) -> None:
    for one, other in ((contender.rows, "TABLE truth"), ("TABLE truth", contender.rows)):
        row = connection.execute(f"SELECT count(*) FROM ({one} EXCEPT ALL {other})").fetchone()
        if row is None or row[0]:
            raise BenchmarkFailed(f"{workload.name}, {contender.name}: {row} rows differ from the truth.")


@contextmanager
def _process(contender: Contender, environment: Mapping[str, str]) -> Iterator[psutil.Popen]:
    process = psutil.Popen(
        [sys.executable, *contender.command], env=dict(environment), cwd=ROOT, stdout=sys.stderr
    )
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _database(server: str) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards."""
    name = f"bench_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
