"""A mesh of the test domain on real Kafka and Postgres, empty for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from mesh_core.model.identifiers import uuid7
from mesh_core.settings import Settings
from tests.engine.desk import catalog, say
from tests.engine.domain import CATALOG
from tests.support.mesh import Mesh
from tests.support.services import Services, delete_all_topics, fresh_database


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
    delete_all_topics(services.kafka_bootstrap_servers)
    with fresh_database(services.database_url) as url:
        settings = Settings(
            database_url=SecretStr(url),
            kafka_bootstrap_servers=services.kafka_bootstrap_servers,
            group=f"group{uuid7()}",
            projector_metrics_port=0,
        )
        mesh = Mesh(settings, CATALOG)
        mesh.deploy()
        with mesh.projecting():
            yield mesh
        mesh.close()
