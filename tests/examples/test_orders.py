"""The generated client and the example page: compiled strictly, run on real Node and in Chromium, against a real mesh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mesh_core.settings import ROOT
from mesh_core.tokens import development_token
from tests.examples.conftest import CHROMIUM, NODE, NPM, Northwind, compiled, written

EXAMPLE = ROOT / "examples" / "orders"
COURIER = ROOT / "examples" / "courier"
HERE = Path(__file__).parent
STRICT = json.loads((EXAMPLE / "tsconfig.json").read_text())["compilerOptions"]


def run(*arguments: str) -> None:
    assert NODE
    done = subprocess.run([NODE, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stdout + done.stderr


@pytest.mark.parametrize(
    "options",
    [pytest.param((), marks=pytest.mark.soak), ("--decimals", "string", "--integers", "bigint")],
)
def test_the_client_compiles_strictly(northwind: Northwind, tmp_path: Path, options: tuple[str, ...]) -> None:
    done = written(tmp_path / "src" / "mesh", *options, settings=northwind.settings)
    assert done.returncode == 0, done.stderr
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": STRICT, "include": ["src"]}))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    compiled(tmp_path, tmp_path / "out")


def test_the_journey_of_a_frontend(northwind: Northwind, tmp_path: Path) -> None:
    assert (
        written(tmp_path / "src" / "mesh", "--url", northwind.url, settings=northwind.settings).returncode
        == 0
    )
    shutil.copy(HERE / "journey.ts", tmp_path / "src")
    options = STRICT | {"types": ["node"], "typeRoots": [str(NPM / "@types")]}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["src"]}))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    compiled(tmp_path, tmp_path / "out")
    token = development_token(northwind.settings, ["customer"], {"customer_id": "QUICK"}, "quick", 5)
    run(str(tmp_path / "out" / "journey.js"), northwind.url, token)


def test_a_service_takes_part_by_http_alone(northwind: Northwind, tmp_path: Path) -> None:
    """It publishes, waits on its position and reads its joined row."""
    shutil.copytree(COURIER, tmp_path / "courier", ignore=shutil.ignore_patterns("dist", "node_modules"))
    project = tmp_path / "courier" / "tsconfig.json"
    given = json.loads(project.read_text())
    given["compilerOptions"]["typeRoots"] = [str(NPM / "@types")]
    project.write_text(json.dumps(given))
    compiled(project.parent, project.parent / "dist")
    script = [str(NODE), str(project.parent / "dist" / "courier.js"), "11008"]
    token = development_token(northwind.settings, ["courier"], {}, "courier", 5)
    environment = {"MESH_URL": northwind.url, "MESH_TOKEN": token, "PATH": os.environ["PATH"]}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("order 11008 of Ernst Handel left at 20")
    environment["MESH_TOKEN"] = development_token(northwind.settings, ["sales"], {}, "sales", 5)
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "403" in done.stderr


def test_a_role_has_a_client_of_what_it_may_see(northwind: Northwind, tmp_path: Path) -> None:
    assert written(tmp_path, "--role", "logistics", settings=northwind.settings).returncode == 0
    schema = (tmp_path / "schema.ts").read_text()
    assert "order_overview" in schema
    for hidden in ("total", "freight", "customer_overview"):
        assert hidden not in schema


def test_a_client_says_whether_it_is_up_to_date(northwind: Northwind, tmp_path: Path) -> None:
    assert written(tmp_path, "--role", "anonymous", settings=northwind.settings).returncode == 0
    assert written(tmp_path, "--role", "anonymous", "--check", settings=northwind.settings).returncode == 0
    done = written(tmp_path, "--role", "logistics", "--check", settings=northwind.settings)
    assert (done.returncode, done.stdout) == (1, f"not up to date: {tmp_path / 'schema.ts'}\n")


@pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium.")
def test_the_page_in_chromium(northwind: Northwind, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "orders", ignore=shutil.ignore_patterns("dist", "mesh"))
    client = tmp_path / "orders" / "src" / "mesh"
    assert written(client, "--role", "anonymous", settings=northwind.settings).returncode == 0
    compiled(tmp_path / "orders", tmp_path / "orders" / "dist")
    handler = partial(_Quiet, directory=str(tmp_path / "orders"))
    with ThreadingHTTPServer(("127.0.0.1", northwind.port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page = f"http://127.0.0.1:{northwind.port}/"
            playwright = str(NPM / "playwright-core" / "index.js")
            shot = tmp_path / "page.png"
            run(str(HERE / "page.mjs"), playwright, str(CHROMIUM), page, northwind.url, str(shot))
            assert shot.stat().st_size > 10_000
        finally:
            server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium.")
def test_the_page_of_contracts_in_chromium(northwind: Northwind) -> None:
    playwright = str(NPM / "playwright-core" / "index.js")
    tokens = [development_token(northwind.settings, [role], {}, role, 5) for role in ("stranger", "admin")]
    run(str(HERE / "contracts_page.mjs"), playwright, str(CHROMIUM), northwind.url, *tokens)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""
