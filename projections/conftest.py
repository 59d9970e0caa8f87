"""What tests beside declarations may use: their domain on real Kafka and Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql

from mesh_core import stack
from mesh_core.cli.publishing import publish_lines
from mesh_core.cli.surroundings import Surroundings
from mesh_core.engine.checking import check
from mesh_core.engine.deploy import Topics, deploy
from mesh_core.engine.projector import Projector
from mesh_core.model import Catalog
from mesh_core.settings import Settings
from mesh_core.store.migrate import migrate
from tests.conftest import (  # noqa: F401  # fixtures, for whoever asks for them
    _no_settings_from_outside,
    clean_kafka,
    database_url,
    kafka_bootstrap_servers,
    services,
    settings,
    unique,
)


@dataclass(frozen=True)
class ProjectedMesh:
    """A deployed domain whose events are all applied."""

    database_url: str

    def rows(self, view: str, *columns: str) -> list[tuple[Any, ...]]:
        """These columns of a view's rows, in the order of the first."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        query = sql.SQL("SELECT {} FROM read.{} ORDER BY 1").format(names, sql.Identifier(view))
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query).fetchall()


class Projected(Protocol):
    """Deploys a domain, publishes its sample events `times` over, and projects them."""

    def __call__(self, module: str, *, history: str, times: int = 1) -> ProjectedMesh:
        """`history` is a file of CloudEvents in the module's folder."""


@pytest.fixture
def projected(settings: Settings) -> Projected:  # noqa: F811  # the fixture
    """See Projected; every view equals its definition afterwards, or the test fails."""

    def run(module: str, *, history: str, times: int = 1) -> ProjectedMesh:
        mesh = Surroundings(Settings(**_given(settings), catalog=module), stack.resolve(settings))
        migrate(mesh.database_url)
        deploy(mesh.database_url, Catalog.load(module), mesh.driver, Topics(2, 1))
        for _ in range(times):
            with (files(module) / history).open(encoding="utf-8") as lines:
                publish_lines(mesh, lines)
        Projector(mesh.settings, mesh.database_url, mesh.driver).run_until_caught_up()
        assert all(result.clean for result in check(mesh.database_url))
        return ProjectedMesh(mesh.database_url)

    return run


def _given(settings: Settings) -> dict[str, Any]:  # noqa: F811
    return {name: getattr(settings, name) for name in settings.model_fields_set}
