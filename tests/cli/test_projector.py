"""`mesh projector` as a process: it waits, works, and stops when it is told to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from mesh_core.settings import ROOT, Settings
from tests.cli.conftest import Mesh
from tests.cli.domain import added, lines
from tests.support.services import environment_of


@contextmanager
def projector(mesh: Mesh, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "mesh_core.cli", "projector"]
    environment = environment_of(mesh.settings) | variables
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stderr=output, env=environment, cwd=ROOT) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def said(log: Path, event: str, seconds: float = 40) -> dict[str, object]:
    """The first line of this event, waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            found = json.loads(line)
            if found["event"] == event:
                return dict(found)
        time.sleep(0.05)
    pytest.fail(f"{event} was not logged: {log.read_text()}")


def test_it_projects_and_stops_cleanly(mesh: Mesh, tmp_path: Path) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1)))
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with projector(mesh, log, MESH_PROJECTOR_METRICS_PORT=port) as process:
            assert port in str(said(log, "no metrics")["reason"])  # it goes on without
            wait_for_rows(mesh, 1)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert process.wait(30) == 0
            assert time.monotonic() - began < 9  # about a second on an idle machine
    assert said(log, "stopped")["level"] == "info"


def test_it_waits_for_what_is_not_there_and_can_be_stopped_meanwhile(mesh: Mesh, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with projector(mesh, log, MESH_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1") as process:
        assert said(log, "waiting")["cause"] == "kafka"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    with projector(mesh, log, MESH_DATABASE_URL="postgresql://mesh@127.0.0.1:1/mesh") as process:
        assert said(log, "waiting")["cause"] == "postgres"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_it_says_what_is_missing(mesh: Mesh, settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with projector(mesh, log) as process:
        assert process.wait(40) == 3
    assert "mesh migrate" in log.read_text()


def wait_for_rows(mesh: Mesh, count: int) -> None:
    deadline = time.monotonic() + 30
    with psycopg.connect(mesh.surroundings.database_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            if connection.execute("SELECT count(*) FROM read.shop_overview").fetchone() == (count,):
                return
            time.sleep(0.05)
    pytest.fail("No rows came.")
