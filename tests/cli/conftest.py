"""Commands in this process, on a mesh of the test's own."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from mesh_core.cli.main import main
from mesh_core.cli.surroundings import Surroundings
from mesh_core.engine.projector import Projector
from mesh_core.settings import Settings
from mesh_core.stack import StackAddresses
from tests.support.services import environment_of


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Mesh:
    """Runs commands as `mesh` does, and the mesh they run on."""

    settings: Settings
    surroundings: Surroundings
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, stdin: str = "") -> Done:
        self.monkeypatch.setattr(sys, "argv", ["mesh", *arguments])
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self.capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    def deployed(self) -> None:
        assert self("migrate").status == 0
        assert self("deploy").status == 0

    def publish(self, text: str) -> None:
        done = self("events", "publish", "-", stdin=text)
        assert done.status == 0, done.err

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """A record as it is, however wrong."""
        with self.surroundings.driver.producer() as producer:
            producer.send(topic, key, value).result(10)

    def project(self) -> None:
        """Apply all that is in the log."""
        mesh = self.surroundings
        Projector(mesh.settings, mesh.database_url, mesh.driver).run_until_caught_up()

    @contextmanager
    def projecting(self) -> Iterator[None]:
        """A projector runs beside the block."""
        mesh = self.surroundings
        projector = Projector(mesh.settings, mesh.database_url, mesh.driver)
        thread = threading.Thread(target=projector.run)
        thread.start()
        try:
            yield
        finally:
            projector.stop()
            thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def mesh(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mesh:
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    settings = Settings(**given, catalog="tests.cli.domain", topic_partitions=2)
    for name, value in environment_of(settings).items():
        if name.startswith("MESH_"):
            monkeypatch.setenv(name, value)
    assert settings.database_url
    assert settings.kafka_bootstrap_servers
    addresses = StackAddresses(settings.database_url.get_secret_value(), settings.kafka_bootstrap_servers)
    return Mesh(settings, Surroundings(settings, addresses), monkeypatch, capsys)
