"""A mesh of the test domain on real Kafka and Postgres, empty for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesh_core.settings import Settings
from tests.engine.desk import catalog, say
from tests.engine.domain import CATALOG
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_database, fresh_settings


@pytest.fixture
def database_url(services: Services, migrated_url: str) -> Iterator[str]:
    """The URL of a migrated database of the test's own."""
    with fresh_database(services.database_url, like=migrated_url) as url:
        yield url


@pytest.fixture
def mesh(settings: Settings) -> Iterator[Mesh]:
    """The test domain, deployed; topics have three partitions."""
    made = Mesh(settings, CATALOG)
    made.deploy()
    yield made
    made.close()


@pytest.fixture
def desk(settings: Settings) -> Iterator[Mesh]:
    """The help desk, deployed, with five clients and twenty tickets."""
    made = Mesh(settings, catalog())
    made.deploy()
    say(made, range(20))
    made.project()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running_mesh(services: Services) -> Iterator[Mesh]:
    """The test domain with a projector that runs all the while: for tests that each use keys of their own."""
    with fresh_settings(services) as settings:
        mesh = Mesh(settings, CATALOG)
        mesh.deploy()
        with mesh.projecting():
            yield mesh
        mesh.close()
