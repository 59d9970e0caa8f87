"""Headers by which a read asks what it must reflect, and several queries in one request."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from tests.read.declarations import insert, order

ROW, ROWS = "/v1/views/orders/1", "/v1/views/orders"
REACHED = '{"sales.events":{"1":0}}'
FAR = '{"sales.events":{"1":5}}'


@pytest.fixture
def filled(client: httpx.Client, deployed_url: str) -> httpx.Client:
    insert(deployed_url, "orders__1", order(1), order(2))
    return client


@pytest.mark.parametrize("path", [ROW, ROWS, "/v1/workflows?service=a&entity=b&key=c", "/v1/events"])
def test_a_minimum_is_met_or_not(filled: httpx.Client, path: str) -> None:
    assert filled.get(path, headers={"Mesh-Min-Position": REACHED}).status_code == 200
    answer = filled.get(path, headers={"Mesh-Min-Position": FAR, "Prefer": "respond-async, wait=0.1"})
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:flexmesh:problem:not-reached")
    assert '"sales.events":{"0":0,"1":0}' in answer.headers["mesh-position"]
    assert "within 0.1 s" in answer.json()["detail"]


@pytest.mark.parametrize("form", ["application/json", "application/x-ndjson", "text/csv"])
def test_every_form_is_asked_alike(filled: httpx.Client, form: str) -> None:
    headers = {"Accept": form, "Mesh-Min-Position": '{"other.events":{"0":1},"sales.events":{"1":0}}'}
    answer = filled.get(ROWS, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["mesh-ignored-topics"] == "other.events"
    assert filled.get(ROWS, headers={"Accept": form, "Mesh-Min-Position": FAR}).status_code == 504
    assert filled.get(ROWS, headers={"Accept": form, "Prefer": "max-staleness=1"}).status_code == 503


def test_what_is_parked_is_told(filled: httpx.Client, deployed_url: str) -> None:
    with psycopg.connect(deployed_url) as connection:
        connection.execute(
            'INSERT INTO mesh.held_events (topic, partition, "offset", version_id, topic_id, status, record_key, '
            "reason, detail, timestamp, otherwise, counted) SELECT 'sales.events', 1, 0, id, 'id', 'dead', 'k', 'r', "
            "'d', 0, 'applied', 'dead_lettered' FROM mesh.versions WHERE name = 'sales.order'"
        )
        connection.execute("UPDATE mesh.checkpoints SET next_offset = 5")
    answer = filled.get(ROW, headers={"Mesh-Min-Position": FAR})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:flexmesh:problem:parked")
    answer = filled.get(ROWS, headers={"Mesh-Min-Position": FAR})
    assert (answer.status_code, answer.headers["mesh-parked"]) == (200, "1")


@pytest.mark.parametrize(
    "headers",
    [
        {"Mesh-Min-Position": "42"},
        {"Mesh-Min-Position": '{"sales.events":{"x":1}}'},
        {"Mesh-Min-Position": '{"sales.events":{"0":-1}}'},
        {"Mesh-Min-Position": "[" * 9000},
        {"Prefer": "wait"},
        {"Prefer": "wait=soon"},
        {"Prefer": "wait=-1"},
        {"Prefer": "max-staleness=nan"},
        {"Prefer": "max-staleness=99999999999"},
    ],
)
def test_what_cannot_be_meant_is_refused(filled: httpx.Client, headers: dict[str, str]) -> None:
    answer = filled.get(ROW, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:flexmesh:problem:invalid-parameter")
    assert next(iter(headers)) in answer.json()["detail"]


def test_a_post_is_never_not_modified(filled: httpx.Client) -> None:
    answer = filled.post("/v1/query", json=[{"view": "orders"}], headers={"If-None-Match": "*"})
    assert answer.status_code == 200
    assert "etag" not in answer.headers
    assert (
        filled.post("/v1/query", json=[{"view": "orders"}], headers={"Accept": "text/csv"}).status_code == 406
    )


@pytest.mark.parametrize(
    "path", ["/v1/views", "/v1/relations", "/v1/events", "/v1/workflows?service=a&entity=b&key=c"]
)
def test_parameters_that_a_route_does_not_have_are_refused(filled: httpx.Client, path: str) -> None:
    answer = filled.get(f"{path}{'&' if '?' in path else '?'}worflow=1")
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:flexmesh:problem:unknown-parameter")


def test_several_queries_in_one_request(filled: httpx.Client) -> None:
    answer = filled.post(
        "/v1/query",
        json=[
            {
                "view": "orders",
                "parameters": {"select": "order_id", "order": "order_id.desc", "count": "exact"},
            },
            {"view": "orders", "key": "1", "parameters": {"select": "customer"}},
            {"view": "lines", "key": "a,b"},
        ],
    )
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["results"] == [
        {"rows": [{"order_id": 2}, {"order_id": 1}], "next": None, "prev": None, "count": 2},
        {"row": {"customer": "ALFKI"}},
        {"row": None},
    ]
    assert set(document["position"]) == {"logistics.events", "sales.events"}
    late = filled.post("/v1/query", json=[{"view": "orders"}], headers={"Mesh-Min-Position": FAR})
    assert late.status_code == 504


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 400),
        ([{"view": "orders"}] * 51, 400),
        ([{"view": "orders", "parameters": {"custmer": "x"}}], 400),
        ([{"view": "nothing"}], 404),
        ([{"view": "orders", "filters": {}}], 422),
        ([{"key": "1"}], 422),
        ({"view": "orders"}, 422),
        ([{"view": "orders", "parameters": {"limit": 3}}], 422),
        ([{"view": "orders", "parameters": {"limit": ["1", "2"]}}], 400),
    ],
)
def test_queries_that_cannot_be_meant_are_refused(filled: httpx.Client, body: object, status: int) -> None:
    answer = filled.post("/v1/query", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["remedy"]
