"""Northwind with its whole past, deployed and projected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesh_core.emit import Publisher
from mesh_core.model import Catalog
from projections.northwind.history import events
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_settings


@pytest.fixture(scope="module")
def northwind(services: Services) -> Iterator[Mesh]:
    """For tests that change nothing of it."""
    with fresh_settings(services) as settings:
        mesh = Mesh(settings, Catalog.load("projections.northwind"))
        mesh.deploy()
        with Publisher(mesh.driver, source="/northwind") as publisher:
            for event in events():
                publisher.publish_envelope(event)
        mesh.project()
        yield mesh
        mesh.close()
