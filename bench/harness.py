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
from typing import Literal, NamedTuple, Protocol
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
_PATIENCE = 300.0
_SLOWEST = 1_000
"""Events a second that the slowest contender must reach."""
_SAMPLED = 0.1
"""Seconds between two looks at memory."""


class BenchmarkFailed(MeshError):
    """A contender did not finish, or made wrong rows: its rate would mean nothing."""


@dataclass(frozen=True)
class Contender:
    """One program that does a workload's job.

    `command` follows the Python interpreter; `environment` is on top of `MESH_…` variables that name a database
    and a broker, which are always set. `progress` is SQL for the events that are in the table for good, asked
    every `pause` seconds; `rows` SQL for the table itself, in the columns of the truth. `prepare` makes the
    empty tables.
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    progress: str
    rows: str
    prepare: Callable[[Mapping[str, str]], None]
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: str = sys.executable
    pause: float = 0.01


class Figure(NamedTuple):
    """One thing that was measured in a run; `aspect` tells it from the others of the same run."""

    aspect: str
    value: float
    unit: str


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

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """One run, measured; always the same aspects. Raises BenchmarkFailed."""


@dataclass(frozen=True)
class Measure:
    """What one run took: seconds from the beginning of consuming to the final table.

    `peak_memory` is in bytes, of that process of the contender's that had the most.
    """

    seconds: float
    peak_memory: int


def measure(workload: Workload, contender: Contender, services: StackAddresses) -> Measure:
    """One run in an empty database. Raises BenchmarkFailed unless every row is right."""
    with running(workload, contender, services) as run:
        final, peak = _watch(workload, contender, run)
        return Measure(final - float(run.began.read_text()), peak)


def rate(workload: Workload, contender: Contender, services: StackAddresses) -> list[Figure]:
    """One run's events a second."""
    return [Figure("", workload.events / measure(workload, contender, services).seconds, "events/s")]


@dataclass(frozen=True)
class Run:
    """A contender at work. `began` is the file that it writes."""

    connection: psycopg.Connection
    process: psutil.Popen
    began: Path


@contextmanager
def running(workload: Workload, contender: Contender, services: StackAddresses) -> Iterator[Run]:
    """The contender at work in an empty database, ended afterwards. Raises BenchmarkFailed on a wrong row."""
    with empty_database(contender, services) as environment, tempfile.TemporaryDirectory() as folder:
        began = Path(folder) / "began"
        environment[BEGAN] = str(began)
        with psycopg.connect(environment["MESH_DATABASE_URL"], autocommit=True) as connection:
            workload.write_truth(connection)
            contender.prepare(environment)
            # What earlier runs left to write must not slow this one down.
            connection.execute("CHECKPOINT")
            with process(contender, environment) as started:
                yield Run(connection, started, began)
                _check(workload, contender, connection)


@contextmanager
def empty_database(contender: Contender, services: StackAddresses) -> Iterator[dict[str, str]]:
    """The variables by which a contender finds a database and a group of its own; the database is dropped afterwards."""
    with database(services.database_url) as url:
        yield {
            **os.environ,
            "MESH_DATABASE_URL": url,
            "MESH_KAFKA_BOOTSTRAP_SERVERS": services.kafka_bootstrap_servers,
            "MESH_GROUP": f"bench-{uuid4().hex[:8]}",
            "MESH_LOG_LEVEL": "warning",
            **contender.environment,
        }


def run_module(environment: Mapping[str, str], *arguments: str) -> None:
    """Runs `python -m …` to its end. Raises BenchmarkFailed with its output if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=dict(environment), cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BenchmarkFailed(f"{' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _watch(workload: Workload, contender: Contender, run: Run) -> tuple[float, int]:
    """The time at which the table was final, and the most memory seen by then."""
    patience = _PATIENCE + workload.events / _SLOWEST
    deadline = time.time() + patience
    peak, sampled = 0, 0.0
    while True:
        row = run.connection.execute(contender.progress).fetchone()
        now = time.time()
        if row is not None and row[0] == workload.events:
            return now, max(peak, memory_of(run.process))
        if run.process.poll() is not None:
            raise BenchmarkFailed(f"{contender.name} ended with status {run.process.returncode}.")
        if now > deadline:
            raise BenchmarkFailed(f"{contender.name} was not done after {patience:.0f} s: {row}.")
        if now > sampled + _SAMPLED:
            peak, sampled = max(peak, memory_of(run.process)), now
        time.sleep(contender.pause)


def memory_of(process: psutil.Popen) -> int:
    """Bytes of the largest of the process and those that it started."""
    largest = 0
    with suppress(psutil.NoSuchProcess):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                largest = max(largest, each.memory_info().rss)
    return largest


def _check(workload: Workload, contender: Contender, connection: psycopg.Connection) -> None:
    for one, other in ((contender.rows, "TABLE truth"), ("TABLE truth", contender.rows)):
        row = connection.execute(f"SELECT count(*) FROM ({one} EXCEPT ALL {other})").fetchone()
        if row is None or row[0]:
            raise BenchmarkFailed(f"{workload.name}, {contender.name}: {row} rows differ from the truth.")


@contextmanager
def process(contender: Contender, environment: Mapping[str, str]) -> Iterator[psutil.Popen]:
    """The contender's process, ended afterwards with all that it started."""
    started = psutil.Popen(
        [contender.interpreter, *contender.command], env=dict(environment), cwd=ROOT, stdout=sys.stderr
    )
    try:
        yield started
    finally:
        family = [started, *started.children(recursive=True)] if started.is_running() else [started]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.terminate()
        for each in psutil.wait_procs(family, 10)[1]:
            each.kill()
        started.wait()


@contextmanager
def database(server: str) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards."""
    name = f"bench_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
