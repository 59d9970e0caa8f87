"""The API answers as its own OpenAPI document says, whatever is sent; by generated requests."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from tests.read.declarations import insert, order


@pytest.fixture
def filled(client: httpx.Client, deployed_url: str) -> httpx.Client:
    insert(deployed_url, "orders__1", *[order(n) for n in range(5)])
    insert(deployed_url, "lines__1", {"order_code": "a", "product": "b", "quantity": 3})
    with psycopg.connect(deployed_url) as connection:  # the examples of what an answer must reflect are met
        connection.execute("UPDATE mesh.checkpoints SET next_offset = 100, current_at = now()")
    return client


def test_answers_are_as_documented(filled: httpx.Client) -> None:
    schema = schemathesis.openapi.from_url(f"{filled.base_url}/openapi.json")
    # Without Kafka a write is 503, which is documented, after seconds; test_workflows has writes.
    reads = schema.include(method="GET").exclude(path="/metrics")
    operations: list[Any] = [result.ok() for result in reads.get_all_operations()]  # type: ignore[union-attr]
    assert {"/v1/views/orders/{key}", "/v1/views/{view}", "/v1/workflows"} <= {
        operation.path for operation in operations
    }
    for operation in operations:

        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            # No generated cursor is one, though a text is all that a schema can ask for.
            case.call_and_validate(excluded_checks=[CHECKS.get_one("positive_data_acceptance")])

        answered()


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
