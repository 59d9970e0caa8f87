"""`mesh` itself, and `mesh stack`: the frame that all commands share."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from mesh_core import stack
from mesh_core.cli.main import create_app
from mesh_core.settings import ROOT


def mesh(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mesh_core.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MESH_STACK_DIR", str(tmp_path))
    yield tmp_path
    stack.reset(tmp_path)


def commands(command: object, path: str = "mesh") -> Iterator[tuple[str, TyperCommand]]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    elif isinstance(command, TyperCommand):
        yield path, command


def test_every_command_has_an_example() -> None:
    without = [
        path
        for path, command in commands(typer.main.get_command(create_app()))
        if "Example" not in (command.help or "") or path not in (command.help or "")
    ]
    assert without == []


def test_help_is_quick() -> None:
    took = []
    for _ in range(3):
        began = _processor_seconds()
        assert mesh("--help").returncode == 0
        took.append(_processor_seconds() - began)
    assert min(took) < 1.5  # 0.2 s on an idle machine


def _processor_seconds() -> float:
    """What processes that have ended took of a processor, however many others wanted it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_wrong_use_exits_2() -> None:
    assert mesh("no-such-command").returncode == 2
    assert mesh("stack", "up", "--no-such-option").returncode == 2


def test_an_error_is_one_line_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_API_PORT", "eighty")
    done = mesh("stack", "status")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mesh: MESH_API_PORT is 'eighty'")
    assert done.stderr.count("\n") == 1


def test_the_life_of_a_stack(directory: Path) -> None:
    assert mesh("stack", "status").returncode == 1
    assert mesh("stack", "status", "--url").returncode == 3

    up = mesh("stack", "up", "--json")
    assert up.returncode == 0, up.stderr
    services = json.loads(up.stdout)
    assert [(service["name"], service["running"]) for service in services] == [
        ("kafka", True),
        ("postgres", True),
    ]
    assert mesh("stack", "status").returncode == 0

    url = mesh("stack", "status", "--url").stdout.strip()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept ()")
    assert url.split(":")[2].split("@")[0] not in up.stdout + up.stderr  # the password

    assert mesh("stack", "down").returncode == 0
    assert not any(service.running for service in stack.status(directory))

    assert mesh("stack", "reset").returncode == 1  # nobody answered the question
    assert (directory / "postgres").exists()
    assert mesh("stack", "reset", "--yes").returncode == 0
    assert not (directory / "postgres").exists()


def test_what_is_given_by_settings_is_not_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mesh_core.settings import load_settings

    with pytest.raises(stack.StackNotRunning, match="mesh stack up"):
        stack.resolve(load_settings(stack_dir=tmp_path))
    given = load_settings(
        stack_dir=tmp_path, database_url="postgresql://db/mesh", kafka_bootstrap_servers="k:9092"
    )
    assert stack.resolve(given) == stack.StackAddresses("postgresql://db/mesh", "k:9092")
    with pytest.raises(stack.StackNotRunning, match="MESH_KAFKA_BOOTSTRAP_SERVERS"):
        stack.resolve(load_settings(stack_dir=tmp_path, database_url="postgresql://db/mesh"))
    assert (
        stack.bootstrap_servers(load_settings(stack_dir=tmp_path, kafka_bootstrap_servers="k:9092"))
        == "k:9092"
    )
    with pytest.raises(stack.StackNotRunning, match=r"The local Kafka in .* MESH_KAFKA_BOOTSTRAP_SERVERS"):
        stack.bootstrap_servers(load_settings(stack_dir=tmp_path))
