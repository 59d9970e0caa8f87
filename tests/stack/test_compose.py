"""docker-compose.yml, as far as it can be checked without an engine: it is not run here."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
import yaml

from mesh_core.cli.main import create_app
from mesh_core.settings import PREFIX, ROOT, Settings
from tests.stack.test_command_line import commands


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(content, dict)
    return content


def ours(compose: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in compose["services"].items() if service.get("build")}


def test_it_runs_the_whole_system(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"kafka", "postgres", "migrate", "deploy", "projector", "api", "door"}
    assert compose["services"]["kafka"]["image"].startswith("apache/kafka:4.")
    assert compose["services"]["postgres"]["image"] == "postgres:18"


def test_every_command_in_it_exists(compose: dict[str, Any]) -> None:
    known = {path for path, _ in commands(typer.main.get_command(create_app()))}
    assert {"mesh " + " ".join(service["command"]) for service in ours(compose).values()} <= known


def test_every_setting_in_it_exists(compose: dict[str, Any]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for service in ours(compose).values():
        assert set(service["environment"]) <= known
    named = re.findall(r"MESH_\w+", (ROOT / "Dockerfile").read_text())
    assert set(named) <= known


def test_what_depends_on_a_service_waits_for_one_that_exists(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, dependency in service.get("depends_on", {}).items():
            assert name in compose["services"]
            if dependency["condition"] == "service_healthy":
                assert "healthcheck" in compose["services"][name]


def test_nothing_is_published_beyond_loopback_and_no_password_is_built_in(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith(
        "${POSTGRES_PASSWORD:?"
    )


def test_the_image_copies_only_what_exists() -> None:
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
