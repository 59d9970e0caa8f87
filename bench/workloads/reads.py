"""Reads: one joined row, and a page of fifty, on 32 connections; beside the straight route, and joins at request time."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.error import URLError
from urllib.request import Request, urlopen

import psycopg
from pydantic import SecretStr

from bench.harness import BenchmarkFailed, Contender, Figure, Kind, empty_database, process, run_module
from bench.history import ThreeServices
from bench.load import drive, figures, gets
from bench.peers import tools
from bench.workloads.w2 import CATALOG, Joined
from mesh_core.settings import Settings
from mesh_core.stack import StackAddresses
from mesh_core.tokens import development_token

SECONDS = 6.0
WARM_UP = 1.5
KEY = "a shared secret for benchmarks alone"
TOKEN = development_token(Settings(auth_key=SecretStr(KEY)), ["reader"], {}, "bench", 24 * 60)
"""Of a role that is granted the view: what is measured checks it, and goes by its grants."""
SERVICES = ("contacts", "organisations", "invoices")


@dataclass(frozen=True)
class Reads:
    """A view of so many contacts."""

    name: ClassVar[str] = "reads"
    services: ThreeServices = field(
        default_factory=lambda: ThreeServices(20_000, 20_000, 1_000, 1_000, 60_000, 60_000)
    )

    @property
    def events(self) -> int:
        """See `Workload.events`."""
        return self.services.events

    def fill(self, bootstrap: str) -> None:
        """See `Workload.fill`."""
        Joined(self.services).fill(bootstrap)

    def write_truth(self, connection: psycopg.Connection) -> None:
        """See `Workload.write_truth`: answers are compared instead, see `figures`."""

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        found = [
            _server("hand-written route", "floor", ("-m", "bench.floor.route")),
            _server("mesh api", "ours", ("-m", "bench.serving")),
        ]
        if tools.installed():
            found += [
                _server("fan-out by service", "peer", ("-m", "bench.peers.fan_out"), BATCHED="1"),
                _server("fan-out by row", "peer", ("-m", "bench.peers.fan_out"), BATCHED="0"),
            ]
        return found

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`."""
        with empty_database(contender, services) as environment, ExitStack() as stack:
            contender.prepare(environment)
            port = stack.enter_context(_serving(contender, environment))
            chance = random.Random(7)
            keys = [chance.randrange(self.services.contact_count - 50) for _ in range(5_000)]
            pages = [_page(contender, key) for key in keys]
            _check(port, pages[0], self.services, keys[0])
            drive(port, gets(pages, TOKEN), WARM_UP)
            found = figures("page", drive(port, gets(pages, TOKEN), SECONDS), SECONDS)
            if contender.kind != "peer":
                rows = [_row(contender, key) for key in keys]
                drive(port, gets(rows, TOKEN), WARM_UP)
                found += figures("row", drive(port, gets(rows, TOKEN), SECONDS), SECONDS)
            return found


def _server(name: str, kind: Kind, command: tuple[str, ...], **environment: str) -> Contender:
    return Contender(
        name=name,
        kind=kind,
        command=command,
        progress="",
        rows="",
        prepare=_deploy,
        environment={"MESH_CATALOG": CATALOG, "MESH_AUTH_KEY": KEY, **environment},
        interpreter=str(tools.PYTHON) if kind == "peer" else Contender.interpreter,
    )


def _deploy(environment: Mapping[str, str]) -> None:
    run_module(environment, "mesh_core.cli", "migrate")
    run_module(environment, "mesh_core.cli", "deploy")


@contextmanager
def _serving(contender: Contender, environment: Mapping[str, str]) -> Iterator[int]:
    """The port of a contender that answers, with whatever it asks itself."""
    with ExitStack() as stack:
        more: dict[str, str] = {}
        if contender.kind == "peer":
            for service in SERVICES:
                more[service.upper()] = str(port := free_port())
                server = _server(service, "floor", ("-m", "bench.peers.services"))
                own = {**environment, "PORT": str(port), "SERVICE": service}
                stack.enter_context(process(server, own))
                until_answered(port, "/by/1")
        port = free_port()
        stack.enter_context(process(contender, {**environment, **more, "PORT": str(port)}))
        until_answered(port, _page(contender, 0))
        yield port


def _page(contender: Contender, key: int) -> str:
    if contender.kind == "ours":
        return f"/v1/views/contact_overview?limit=50&id=gt.{key}"
    return f"/page/{key}"


def _row(contender: Contender, key: int) -> str:
    return f"/v1/views/contact_overview/{key}" if contender.kind == "ours" else f"/row/{key}"


def _check(port: int, path: str, services: ThreeServices, key: int) -> None:
    """That a page has the right rows. Raises BenchmarkFailed."""
    with urlopen(_asking(port, path), timeout=30) as answer:
        found = json.load(answer)
    expected = [row for row in services.joined() if key < row["id"] <= key + 50]
    if [dict(row) for row in found] != [dict(row) for row in expected]:
        raise BenchmarkFailed(f"{path}: {found[:1]} is not {expected[:1]}.")


def _asking(port: int, path: str) -> Request:
    return Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {TOKEN}"})


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def until_answered(port: int, path: str) -> None:
    """Wait until a server answers. Raises BenchmarkFailed."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urlopen(_asking(port, path), timeout=10):
                return
        except (URLError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"Nothing answers at {path}: {error}.") from error
            time.sleep(0.05)
