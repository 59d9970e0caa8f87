"""The API answers as its own OpenAPI document says, whatever is sent; by generated requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from mesh_core.log import KafkaConfig, connect
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.settings import Settings
from tests.api.conftest import served
from tests.read.declarations import insert, order


@pytest.fixture
def filled(client: httpx.Client, deployed_url: str) -> httpx.Client:
    insert(deployed_url, "orders__1", *[order(n) for n in range(5)])
    insert(deployed_url, "lines__1", {"order_code": "a", "product": "b", "quantity": 3})
    with psycopg.connect(deployed_url) as connection:  # the examples of what an answer must reflect are met
        connection.execute("UPDATE mesh.checkpoints SET next_offset = 100, current_at = now()")
    return client


@pytest.fixture
def writing(settings_with_kafka: Settings) -> Iterator[httpx.Client]:
    """A client of an API with Kafka; nothing is projected."""
    with served(settings_with_kafka) as client:
        yield client


@pytest.fixture
def settings_with_kafka(deployed_url: str, clean_kafka: str) -> Settings:
    with connect(KafkaConfig(clean_kafka)).admin() as admin:
        for topic in (MESH_TOPIC, "sales.events", "logistics.events"):
            admin.create_topic(topic, 2)
    return Settings(
        database_url=deployed_url,
        kafka_bootstrap_servers=clean_kafka,
        catalog="tests.read.declarations",
        auth_anonymous_role="admin",
    )


# The API runs in a thread of this process, and its pool of connections waits for random times.
RANDOM = "ignore:Do not use the `random` module inside strategies"
LENGTHS = [0, pytest.param(600, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]


@pytest.mark.filterwarnings(RANDOM)
@pytest.mark.parametrize("seconds", LENGTHS)
def test_reads_are_answered_as_documented(filled: httpx.Client, seconds: int) -> None:
    """A few requests of each operation; the soak sends others for ten minutes."""
    schema = schemathesis.openapi.from_url(f"{filled.base_url}/openapi.json")
    # test_declarations has plans, and test_history histories, which need Kafka.
    reads = schema.include(method="GET").exclude(path=["/metrics", "/v1/admin/plan"])
    reads = reads.exclude(path_regex="/history$")
    paths = ask(reads, seconds)
    assert {"/v1/views/orders/{key}", "/v1/views/{view}", "/v1/workflows"} <= paths


@pytest.mark.filterwarnings(RANDOM)
@pytest.mark.parametrize("seconds", LENGTHS)
def test_writes_are_answered_as_documented(writing: httpx.Client, seconds: int) -> None:
    """All but a deploy, which is not for trying a thousand times; test_declarations has it."""
    schema = schemathesis.openapi.from_url(f"{writing.base_url}/openapi.json")
    writes = schema.exclude(method="GET").exclude(path="/v1/admin/deploys")
    paths = ask(writes, seconds)
    assert {"/v1/events", "/v1/workflows", "/v1/query", "/v1/admin/grants/{role}/{resource}"} <= paths


def ask(schema: Any, seconds: int) -> set[str]:
    """Ask each operation in turn, each answer being held to the document; the paths that were asked."""
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]
    until = time.monotonic() + seconds
    turns = ((turn, operation) for turn in count() for operation in operations)
    for turn, operation in turns:
        if turn and time.monotonic() > until:
            break

        @settings(
            max_examples=50 if seconds else 4,
            deadline=None,
            database=None,
            derandomize=not seconds,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            # No generated cursor is one, and no generated event keeps a contract, though that is all a schema can ask for.
            case.call_and_validate(excluded_checks=[CHECKS.get_one("positive_data_acceptance")])

        answered()
    return {operation.path for operation in operations}


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(name=st.text(min_size=1), value=st.text())
def test_no_parameter_is_ignored_or_breaks_it(filled: httpx.Client, name: str, value: str) -> None:
    answer = filled.get("/v1/views/orders", params={name: value})
    assert answer.status_code == 400, (name, value, answer.text)
    assert answer.json()["remedy"]


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(value=st.text())
def test_no_value_breaks_out_of_its_filter(filled: httpx.Client, value: str) -> None:
    answer = filled.get("/v1/views/orders", params={"customer": f"eq.{value}"})
    assert answer.status_code in (200, 400)
    assert answer.status_code == 400 or answer.json() == ([] if value != "ALFKI" else answer.json())
