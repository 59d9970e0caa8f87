"""Fixtures that every test may use: real services, an empty database, names that no other test has."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from mesh_core import stack
from mesh_core.settings import Settings
from mesh_core.store.migrate import migrate
from tests.support import services as support
from tests.support.services import Services

# The suite tries the same examples every time, so that it says of a change what it said before it. The soaks
# try new ones.
hypothesis.settings.register_profile("steady", derandomize=True)
hypothesis.settings.load_profile("steady")


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as there are processors: tests wait for groups and servers much of their time."""
    return 2 * (os.cpu_count() or 1)


LONG = (
    "tests/acceptance/",
    "tests/examples/",
    "tests/engine/test_faults.py",
    "tests/engine/test_changing.py",
    "tests/log/test_faults.py",
    "tests/log/test_groups.py",
    "tests/stack/",
)
"""Files that take long for how few tests they have, or that wait for groups and servers. They begin first, beside what is
busy, or all wait for them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, and may take long on a busy machine; all else stays in its order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    for item in items:
        if item.nodeid.startswith(LONG) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Kafka and Postgres for the session."""
    with support.running_services() as running:
        yield running


@pytest.fixture
def database_url(services: Services) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    with support.fresh_database(services.database_url) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_url(services: Services) -> Iterator[str]:
    """The URL of a migrated database, to make others like it: nobody may connect to it."""
    with support.fresh_database(services.database_url) as url:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def _deployed(services: Services) -> Iterator[str]:
    from tests.read.declarations import deploy_by_hand  # not everybody who takes these fixtures has them

    with support.fresh_database(services.database_url) as url:
        deploy_by_hand(url)
        yield url


@pytest.fixture
def deployed_url(services: Services, _deployed: str) -> Iterator[str]:
    """The URL of a database of the test's own with the small mesh of tests/read/declarations.py."""
    with support.fresh_database(services.database_url, like=_deployed) as url:
        yield url


@pytest.fixture(scope="session")
def kafka_bootstrap_servers(services: Services) -> str:
    """The broker, with whatever topics other tests made: use names of `unique`."""
    return services.kafka_bootstrap_servers


@pytest.fixture
def clean_kafka(kafka_bootstrap_servers: str) -> str:
    """The broker without any topic: for tests of topics with fixed names, such as `mesh.events`."""
    support.delete_all_topics(kafka_bootstrap_servers)
    return kafka_bootstrap_servers


@pytest.fixture
def settings(clean_kafka: str, database_url: str, unique: Callable[[str], str]) -> Settings:
    """Settings of a mesh of the test's own: no topics, an empty database, a fresh consumer group."""
    return Settings(
        auth_anonymous_role="admin",
        database_url=database_url,
        kafka_bootstrap_servers=clean_kafka,
        group=unique("group"),
        projector_poll_seconds=0.1,
        projector_metrics_port=0,
        api_port=0,
    )


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes a name that no other test has: `unique("sales")` is like `sales3f9a1c2b`."""
    return lambda name: f"{name}{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class OwnStack:
    """A local stack of the test's own: `stack.kafka.kill(own.directory)` harms nobody else."""

    directory: Path
    addresses: stack.StackAddresses


@pytest.fixture
def own_stack() -> Iterator[OwnStack]:
    """A local stack that the test may stop, kill and restart. Never Docker's: faults need its processes."""
    with support.private_stack() as (directory, addresses):
        yield OwnStack(directory, addresses)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's own `.env` and variables do not change what tests see."""
    for variable in os.environ:
        if variable.startswith("MESH_") and not variable.startswith("MESH_TEST_"):
            monkeypatch.delenv(variable)
    monkeypatch.setattr("mesh_core.settings.dotenv_files", tuple)
