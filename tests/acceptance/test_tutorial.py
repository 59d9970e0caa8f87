"""The tutorial, run as it is written, in a copy of the project with a stack of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mesh_core import stack
from mesh_core.settings import ROOT
from tests.support.services import Services

PAGE = ROOT / "docs" / "tutorial" / "first-view.md"
COPIED = ("mesh_core", "api", "projections", "migrations", "tests/support")
BLOCK = re.compile(r"```sh\n(.*?)```(?:\s*```json\n(.*?)```)?", re.DOTALL)
DONE = "__done__"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of what a clone has, whose `./mesh` is quick: it needs no set-up here."""
    folder = tmp_path / "project"
    leave = shutil.ignore_patterns("__pycache__", "shop")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("pyproject.toml", "alembic.ini", "tests/__init__.py", "tests/conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".mesh").mkdir()
    (folder / ".mesh" / "kafka").symlink_to(ROOT / ".mesh" / "kafka")
    script = folder / "mesh"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mesh_core.cli "$@"\n')
    script.chmod(0o755)
    yield folder
    stack.reset(folder / ".mesh" / "stack")


class Shell:
    """One bash, as the reader has it open."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.errors = folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                ["bash"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )

    def run(self, block: str) -> tuple[int, str]:
        """Exit status of the block's last command, and what it printed."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f'{block}\necho "{DONE} $?"\n')
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            if DONE in line:
                return int(line.rpartition(" ")[2]), said + line.partition(DONE)[0]
            said += line
        pytest.fail(f"The shell ended: {self.errors.read_text()}")

    def eventually(self, block: str, expected: Any) -> None:
        """The block prints this JSON, within the time that a projector may need on a busy machine."""
        said, deadline = "", time.monotonic() + 40
        while time.monotonic() < deadline:
            _, said = self.run(block)
            try:
                if json.loads(said, parse_float=Decimal) == expected:
                    return
            except ValueError:
                pass
            time.sleep(0.1)
        pytest.fail(f"{block}\nprinted {said}\nnot {expected}\n{self.errors.read_text()}")


def test_the_tutorial(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = os.environ | {"MESH_API_PORT": port, "MESH_PROJECTOR_METRICS_PORT": "0", "PYTHONPATH": ""}
    shell = Shell(project, environment)
    try:
        for block, expected in BLOCK.findall(PAGE.read_text().replace(":8000", f":{port}")):
            if expected:
                shell.eventually(block, json.loads(expected, parse_float=Decimal))
            else:
                status, said = shell.run(block)
                assert status == 0, f"{block}\n{said}\n{shell.errors.read_text()}"
    finally:
        shell.run("kill %1 %2 2>/dev/null; wait")
        shell.process.kill()
        shell.process.communicate()


def test_the_test_that_comes_with_a_new_domain(project: Path, services: Services, clean_kafka: str) -> None:
    environment = os.environ | {
        "MESH_TEST_DATABASE_URL": services.database_url,
        "MESH_TEST_KAFKA_BOOTSTRAP_SERVERS": clean_kafka,
    }
    for command in (
        ["./mesh", "new", "shop"],
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "projections/shop"],
        [sys.executable, "-m", "ruff", "check", "projections/shop"],
    ):
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
