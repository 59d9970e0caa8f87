"""Northwind as the demo serves it, and what its client and pages are made with."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh_core import stack
from mesh_core.cli.demo.preparation import publish_history
from mesh_core.cli.surroundings import Surroundings
from mesh_core.model import Catalog
from mesh_core.settings import ROOT, Settings
from tests.api.conftest import served
from tests.support.mesh import Mesh
from tests.support.services import Services, environment_of, fresh_settings

NPM = ROOT / "requirements" / "npm" / "node_modules"
NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass(frozen=True)
class Northwind:
    """Where it is served, by which settings, and a free port that pages may be served at."""

    url: str
    settings: Settings
    port: int


@pytest.fixture(scope="package")
def northwind(services: Services) -> Iterator[Northwind]:
    if NODE is None or not NPM.is_dir():
        pytest.skip("There is no Node, or requirements/install dev ran without it.")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with fresh_settings(
        services,
        catalog="projections.northwind",
        auth_anonymous_role="anonymous",
        auth_key="a shared secret that is long enough",
        cors_origins=f"http://127.0.0.1:{port}",
        projector_poll_seconds=0.05,
    ) as settings:
        mesh = Mesh(settings, Catalog.load("projections.northwind"), partitions=1)
        mesh.deploy()
        publish_history(Surroundings(settings, stack.resolve(settings)))
        with mesh.projecting():
            mesh.wait_caught_up()
            with served(settings) as client:
                yield Northwind(str(client.base_url).rstrip("/"), settings, port)
        mesh.close()


def written(to: Path, *options: str, settings: Settings) -> subprocess.CompletedProcess[str]:
    """`mesh client typescript` into a folder."""
    return subprocess.run(
        [sys.executable, "-m", "mesh_core.cli", "client", "typescript", "--to", str(to), *options],
        cwd=ROOT,
        env=environment_of(settings),
        capture_output=True,
        text=True,
        check=False,
    )


def compiled(project: Path, out: Path) -> None:
    """Compile a project under its own strict settings; every complaint fails the test."""
    done = subprocess.run(
        [str(NPM / ".bin" / "tsc"), "-p", str(project), "--outDir", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
