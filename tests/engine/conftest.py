"""A mesh of the test domain on real Kafka and Postgres, empty for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesh_core.settings import Settings
from tests.engine.domain import CATALOG
from tests.support.mesh import Mesh


@pytest.fixture
def mesh(settings: Settings) -> Iterator[Mesh]:
    """The test domain, deployed; topics have three partitions."""
    made = Mesh(settings, CATALOG)
    made.deploy()
    yield made
    made.close()
