"""Views over HTTP."""

from __future__ import annotations

import json
from decimal import Decimal
from urllib.parse import quote

import httpx

from mesh_core.model.identifiers import key_text
from tests.read.declarations import insert, order


def test_one_row_and_its_position(client: httpx.Client, deployed_url: str) -> None:
    insert(deployed_url, "orders__1", order(7, total=Decimal("1265793.0395")))
    answer = client.get("/v1/views/orders/7")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.headers["mesh-position"]) == {
        "logistics.events": {"0": 0, "1": 0},
        "sales.events": {"0": 0, "1": 0},
    }
    assert '"total":1265793.0395' in answer.text


def test_composite_keys_in_a_path(client: httpx.Client, deployed_url: str) -> None:
    insert(deployed_url, "lines__1", {"order_code": "a,b/c", "product": "ü%", "quantity": 3})
    key = quote(key_text(["a,b/c", "ü%"]), safe="")
    assert client.get(f"/v1/views/lines/{key}").json()["quantity"] == 3


def test_following_the_links_gives_every_row_once(client: httpx.Client, deployed_url: str) -> None:
    insert(deployed_url, "orders__1", *[order(n, customer="a&b ü") for n in range(5)], order(9))
    seen = []
    url = "/v1/views/orders?customer=eq.a%26b+%C3%BC"
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        assert answer.headers["mesh-position"]
        seen += [row["order_id"] for row in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert seen == [0, 1, 2, 3, 4]


def test_problems_name_the_cause_and_the_remedy(client: httpx.Client) -> None:
    answer = client.get("/v1/views/orders?custmer=x")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:flexmesh:problem:unknown-parameter",
        "title": "A parameter is neither one of the route nor a column of the view.",
        "status": 400,
        "detail": "orders has no column 'custmer'.",
        "instance": "/v1/views/orders",
        "remedy": answer.json()["remedy"],
    }
    assert answer.json()["remedy"].startswith("Did you mean customer? Parameters: select, order,")
    assert "Columns: order_id, customer," in answer.json()["remedy"]


def test_every_refusal_is_a_problem(client: httpx.Client) -> None:
    for path, status in {
        "/v1/views/nothing": 404,
        "/v1/views/orders/7": 404,
        "/v1/views/orders/x": 400,
        "/v1/views/orders/%00": 400,
        "/v1/views/orders/%FF": 400,
        "/v1/views/orders?customer=%00": 400,
        "/v1/views/orders?customer=%ED%A0%80": 200,
        "/v1/views/orders?%00=1": 400,
        "/v1/views/orders?limit=1e3": 400,
        "/v1/views/orders?cursor=x": 400,
        "/v1/views/orders/" + "9" * 3000: 400,
        "/nowhere": 404,
        "/v1/nowhere/%0a": 404,
    }.items():
        answer = client.get(path)
        assert answer.status_code == status, (path, answer.text)
        if status != 200:
            problem = answer.json()
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["status"] == status
            assert set(problem) == {"type", "title", "status", "detail", "instance", "remedy"}
            assert all(problem.values())
    answer = client.delete("/v1/views")
    assert (answer.status_code, answer.json()["type"]) == (405, "urn:flexmesh:problem:method-not-allowed")


def test_the_catalogue_and_the_relations(client: httpx.Client) -> None:
    views = client.get("/v1/views")
    assert [view["name"] for view in views.json()] == ["lines", "orders", "shipment_orders"]
    assert views.headers["mesh-position"]
    assert {edge["kind"] for edge in client.get("/v1/relations").json()["edges"]} == {
        "one",
        "many",
        "workflow",
    }
