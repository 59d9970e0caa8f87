"""`mesh demo`, as people run it, on a stack of its own and cold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_core import stack
from mesh_core.settings import ROOT

COMMAND = [sys.executable, "-m", "mesh_core.cli", "demo"]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    yield os.environ | {"MESH_STACK_DIR": str(tmp_path), "MESH_PROJECTOR_METRICS_PORT": "0"}
    stack.reset(tmp_path)


def test_it_serves_what_the_files_say_then_stops_all_and_runs_again(
    environment: dict[str, str], tmp_path: Path
) -> None:
    first = run(environment, "--exit")
    assert first.returncode == 0, first.stdout + first.stderr
    for told in (
        "Vins et alcools Chevalier",
        "1265793.0395",
        "published 3518 events",
        "as the CSV files say",
    ):
        assert told in first.stdout
    assert "curl" not in first.stdout
    assert not any(service.running for service in stack.status(tmp_path))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [*COMMAND, "--port", str(port)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has SIGINT ignored, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as again:
        try:
            said = until(again, "Serving until Ctrl-C.")
            assert "the events are in the log already" in said
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/views/order_overview/10248") as answer:
                assert b'"total":440.00' in answer.read().replace(b": ", b":")
            second = run(environment)
            with_port_taken = run(
                environment | {"MESH_STACK_DIR": str(tmp_path / "else")}, "--port", str(port)
            )
            again.send_signal(signal.SIGINT)
            assert again.wait(30) == 0
        finally:
            again.kill()
    assert second.returncode == 1
    assert "A demo is running already" in second.stderr
    assert with_port_taken.returncode == 3
    assert f"mesh demo --port {port + 1}" in with_port_taken.stderr
    assert not any(service.running for service in stack.status(tmp_path))


def run(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *options]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def until(process: subprocess.Popen[str], line: str) -> str:
    """All output up to a line."""
    assert process.stdout
    said, deadline = "", time.monotonic() + 60
    for text in process.stdout:
        said += text
        if line in text or time.monotonic() > deadline:
            break
    assert line in said
    return said
