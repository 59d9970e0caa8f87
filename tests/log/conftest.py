from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mesh_core.log import Admin, Driver, KafkaConfig, connect
from tests.support.services import Services


@pytest.fixture(params=["kafka-python", "confluent-kafka"])
def driver(request: pytest.FixtureRequest, services: Services) -> Driver:
    """Every test with it runs once for each client: they keep one contract."""
    return connect(KafkaConfig(services.kafka_bootstrap_servers, driver=request.param))


@pytest.fixture(scope="session")
def admin(services: Services) -> Iterator[Admin]:
    with connect(KafkaConfig(services.kafka_bootstrap_servers)).admin() as admin:
        yield admin


@pytest.fixture
def topic(admin: Admin, unique: Callable[[str], str]) -> Callable[[int], str]:
    """Makes a topic of that many partitions."""

    def make(partitions: int) -> str:
        return admin.create_topic(unique("sales"), partitions).name

    return make
