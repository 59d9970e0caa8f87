"""Every limit is a setting, and what is past it is a problem that names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from mesh_core.settings import Settings
from tests.api.conftest import NO_KAFKA, served

ROWS = "/v1/views/lines"


@pytest.fixture
def limited(deployed_url: str) -> Iterator[httpx.Client]:
    with psycopg.connect(deployed_url) as connection:
        connection.execute(
            "INSERT INTO data.lines__1 SELECT n::text, 'x', n FROM generate_series(1, 100) AS n"
        )
    settings = Settings(
        auth_anonymous_role="admin",
        database_url=deployed_url,
        kafka_bootstrap_servers=NO_KAFKA,
        catalog="tests.read.declarations",
        page_limit_default=2,
        page_limit_max=5,
        stream_rows_max=7,
        query_conditions_max=3,
        query_depth_max=2,
        query_list_max=4,
        url_bytes_max=600,
        body_bytes_max=1024,
        statement_timeout_seconds=0.2,
    )
    with served(settings) as client:
        yield client


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"limit": "6"}, "from 1 to 5"),
        ({"quantity": ["gt.1", "gt.2", "gt.3", "gt.4"]}, "More than 3 conditions"),
        (
            {"or": "(quantity.gt.1,and(quantity.gt.2,or(quantity.gt.3,quantity.gt.4)))"},
            "more than 2 parentheses",
        ),
        ({"quantity": "in.(1,2,3,4,5)"}, "more than 4 values"),
    ],
)
def test_what_a_query_may_ask(limited: httpx.Client, parameters: dict[str, Any], says: str) -> None:
    for answer in (
        limited.get(ROWS, params=parameters),
        limited.post("/v1/query", json=[{"view": "lines", "parameters": parameters}]),
    ):
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:flexmesh:problem:invalid-parameter")
        assert says in answer.json()["detail"]
        assert answer.json()["remedy"]


def test_how_much_is_answered(limited: httpx.Client) -> None:
    assert len(limited.get(ROWS).json()) == 2
    csv = {"Accept": "text/csv"}
    with pytest.raises(httpx.RemoteProtocolError):  # cut off, not cut short: it cannot be taken for all
        limited.get(ROWS, headers=csv)
    assert limited.get(ROWS, headers=csv, params={"quantity": "lte.7"}).text.count("\r\n") == 1 + 7
    assert limited.get(ROWS, headers=csv, params={"limit": "3"}).text.count("\r\n") == 1 + 3
    assert limited.get(ROWS, headers=csv, params={"limit": "8"}).status_code == 400


def test_how_long_a_request_may_be(limited: httpx.Client) -> None:
    answer = limited.get(ROWS, params={"product": "x" * 600})
    assert (answer.status_code, answer.json()["type"]) == (414, "urn:flexmesh:problem:url-too-long")
    assert limited.get(f"{ROWS}/{'x' * 600}").status_code == 414
    answer = limited.post("/v1/query", json=[{"view": "lines", "parameters": {"product": "x" * 1024}}])
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:flexmesh:problem:body-too-large")


def test_how_long_a_read_may_take(limited: httpx.Client, deployed_url: str) -> None:
    with psycopg.connect(deployed_url) as connection:
        connection.execute("LOCK data.lines__1 IN ACCESS EXCLUSIVE MODE")
        for answer in (
            limited.get(ROWS),
            limited.get(f"{ROWS}/1,x"),
            limited.post("/v1/query", json=[{"view": "lines"}]),
        ):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:flexmesh:problem:read-timeout")
    assert limited.get(ROWS).status_code == 200
