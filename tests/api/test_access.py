"""Every route, for every role, on rows of two tenants; and what is said centrally, on two API processes at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from mesh_core.model import Catalog
from mesh_core.model.builtin import GrantMade
from mesh_core.model.grants import RELATIONS, TIMELINE, WORKFLOWS, claim, column, grant, publishing
from mesh_core.settings import Settings
from mesh_core.tokens import development_token
from tests.api.conftest import served
from tests.read.declarations import Line, Order, OrderPlaced, Shipment, lines, orders, shipment_orders
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_settings

OWN, OTHER = "ALFKI", "SECRET-OF-QUICK"
IDS = {OWN: 1, OTHER: 2}
FLOWS = {OWN: UUID(int=1), OTHER: UUID(int=2)}
ROLES = ("stranger", "clerk", "customer", "admin")
CATALOG = Catalog.of(
    entities=[Order, Line, Shipment],
    views=[orders, lines, shipment_orders],
    grants=[
        *(grant(to, "clerk") for to in (WORKFLOWS, TIMELINE, RELATIONS, publishing("mesh"))),
        grant(orders, "clerk", columns=["total"]),
        *(grant(to, "customer") for to in (WORKFLOWS, TIMELINE)),
        grant(orders, "customer", where=claim("customer") == column("customer")),
    ],
)


def placed(number: int, customer: str) -> OrderPlaced:
    return OrderPlaced.model_validate({
        "order_id": number, "customer": customer, "total": "1.5", "express": True, "placed_at": "2026-01-01T00:00:00Z",
    })  # fmt: skip


@pytest.fixture(scope="module")
def mesh(services: Services) -> Iterator[Mesh]:
    with fresh_settings(
        services,
        catalog="tests.read.declarations",
        projector_poll_seconds=0.05,
        auth_key="a shared secret that is long enough",
        auth_anonymous_role=None,
    ) as settings:
        made = Mesh(settings, CATALOG, partitions=1)
        made.deploy()
        for customer, number in IDS.items():
            made.publish(placed(number, customer), number, workflow=FLOWS[customer])
        with made.projecting():
            made.wait_caught_up()
            yield made
        made.close()


@pytest.fixture(scope="module")
def api(mesh: Mesh) -> Iterator[httpx.Client]:
    with served(mesh.settings) as client:
        yield client


def headers(settings: Settings, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {development_token(settings, [role], {'customer': OWN}, role, 5)}"}


Expected = Callable[[str, str], int]
"""The status for a role, asking for what is a tenant's."""


def only(*roles: str, otherwise: int = 403) -> Expected:
    return lambda role, tenant: 200 if role in (*roles, "admin") else otherwise


def of_row(role: str, tenant: str) -> int:
    return 200 if role in ("clerk", "admin") or (role == "customer" and tenant == OWN) else 404


def of_workflow(role: str, tenant: str) -> int:
    return 403 if role == "stranger" else of_row(role, tenant)


anybody: Expected = lambda role, tenant: 200  # noqa: E731  # beside the others
admin = only()
seeing = only("clerk", "customer", otherwise=404)
ROUTES: dict[tuple[str, str], Expected] = {
    ("GET", "/livez"): anybody,
    ("GET", "/readyz"): anybody,
    ("GET", "/metrics"): anybody,
    ("GET", "/v1/views"): anybody,
    ("GET", "/v1/relations"): only("clerk"),
    ("GET", "/v1/views/{view}"): seeing,
    ("GET", "/v1/views/{view}/{key}"): of_row,
    ("GET", "/v1/views/{view}/{key}/history"): of_row,
    ("GET", "/v1/views/orders"): seeing,
    ("GET", "/v1/views/orders/{key}"): of_row,
    ("GET", "/v1/views/orders/{key}/history"): of_row,
    ("GET", "/v1/views/lines"): only(otherwise=404),
    ("GET", "/v1/views/lines/{key}"): lambda role, tenant: (
        400 if role == "admin" else 404
    ),  # a key of two parts
    ("GET", "/v1/views/lines/{key}/history"): lambda role, tenant: 400 if role == "admin" else 404,
    ("GET", "/v1/views/shipment_orders"): only(otherwise=404),
    ("GET", "/v1/views/shipment_orders/{key}"): lambda role, tenant: 400 if role == "admin" else 404,
    ("GET", "/v1/views/shipment_orders/{key}/history"): lambda role, tenant: 400 if role == "admin" else 404,
    ("POST", "/v1/query"): seeing,
    ("GET", "/v1/workflows"): only("clerk", "customer"),
    ("POST", "/v1/workflows"): lambda role, tenant: 201 if role in ("clerk", "admin") else 403,
    ("GET", "/v1/workflows/{workflow_id}"): of_workflow,
    ("PUT", "/v1/workflows/{workflow_id}/entries/{service}/{entity}/{key}"): only("clerk"),
    ("GET", "/v1/events"): only("clerk", "customer"),
    ("POST", "/v1/events"): lambda role, tenant: 422 if role == "admin" else 403,
    ("GET", "/v1/services/{service}/contracts"): lambda role, tenant: 404 if role == "admin" else 403,
    ("PUT", "/v1/services/{service}/contracts"): lambda role, tenant: 422 if role == "admin" else 403,
    ("DELETE", "/v1/services/{service}/contracts"): lambda role, tenant: 404 if role == "admin" else 403,
    ("GET", "/v1/admin/views"): admin,
    ("GET", "/v1/admin/views/{name}"): lambda role, tenant: 404 if role == "admin" else 403,
    ("PUT", "/v1/admin/views/{name}"): lambda role, tenant: 422 if role == "admin" else 403,
    ("DELETE", "/v1/admin/views/{name}"): lambda role, tenant: 404 if role == "admin" else 403,
    ("GET", "/v1/admin/plan"): admin,
    ("GET", "/v1/admin/deploys"): admin,
    ("POST", "/v1/admin/deploys"): lambda role, tenant: 422 if role == "admin" else 403,
    ("GET", "/v1/admin/deploys/{number}"): admin,
    ("GET", "/v1/admin/roles"): admin,
    ("PUT", "/v1/admin/roles/{role}"): lambda role, tenant: 422 if role == "admin" else 403,
    ("DELETE", "/v1/admin/roles/{role}"): admin,
    ("GET", "/v1/admin/grants"): admin,
    ("PUT", "/v1/admin/grants/{role}/{resource}"): lambda role, tenant: 422 if role == "admin" else 403,
    ("DELETE", "/v1/admin/grants/{role}/{resource}"): admin,
}


def ask(api: httpx.Client, method: str, path: str, tenant: str, sent: dict[str, str]) -> list[httpx.Response]:
    """The request in all its forms: plain, counted, filtered by the other's value, as lines, as CSV, expanded."""
    for name, value in {
        "view": "orders", "key": str(IDS[tenant]), "workflow_id": str(FLOWS[tenant]), "service": "sales",
        "entity": "order", "name": "nothing", "number": "1", "role": "nobody", "resource": "timeline",
    }.items():  # fmt: skip
        path = path.replace(f"{{{name}}}", value)
    body: Any = None
    if method in ("PUT", "POST"):
        body = {"what": 1} if "admin" in path else {}
        if path == "/v1/query":
            body = [
                {"view": "orders", "parameters": {"count": "exact"}},
                {"view": "orders", "key": str(IDS[tenant])},
            ]
        if "entries" in path:
            body = None
        if path == "/v1/events":
            body = {"specversion": "1.0", "type": "sales.order.placed.v1", "data": {}}
    forms: list[tuple[dict[str, str], dict[str, str]]] = [({}, {})]
    if path == "/v1/workflows" and method == "GET":
        forms = [({"service": "sales", "entity": "order", "key": str(IDS[tenant])}, {})]
    elif path == "/v1/events" and method == "POST":
        forms = [({}, {"Content-Type": "application/cloudevents+json"})]
    elif path == "/v1/views/orders":
        forms += [({"count": count}, {}) for count in ("exact", "planned", "estimated")]
        forms += [({}, {"Accept": accept}) for accept in ("text/csv", "application/x-ndjson")]
        forms += [({"limit": "1", "order": "total.desc"}, {}), ({"order_id": f"neq.{IDS[OWN]}"}, {})]
    elif path.startswith("/v1/workflows/") and method == "GET":
        forms += [({"expand": "rows"}, {})]
    return [
        api.request(
            method, path, params=params, headers=sent | more, **({} if body is None else {"json": body})
        )
        for params, more in forms
    ]


@pytest.mark.parametrize("role", ROLES)
def test_each_cell_is_decided_by_the_grants(mesh: Mesh, api: httpx.Client, role: str) -> None:
    described = api.get("/openapi.json", headers=headers(mesh.settings, "admin")).json()["paths"]
    served_routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert ROUTES.keys() == served_routes, "each route has a row in the matrix"
    for (method, path), expected in ROUTES.items():
        for tenant in IDS:
            for answer in ask(api, method, path, tenant, headers(mesh.settings, role)):
                told = f"{answer.status_code} {answer.text} {answer.headers}"
                assert answer.status_code == expected(role, tenant), (method, path, role, tenant, told)
                if role != "admin":
                    assert OTHER not in told, (method, path, role)
                if role == "customer" and "content-range" in answer.headers:
                    assert answer.headers["content-range"] == "0-0/1"


def test_what_is_others_is_answered_as_what_is_not_there(mesh: Mesh, api: httpx.Client) -> None:
    sent = headers(mesh.settings, "customer")
    for path, there, missing in (
        ("/v1/views/orders/{}", IDS[OTHER], 999),
        ("/v1/workflows/{}", FLOWS[OTHER], UUID(int=999)),
        ("/v1/views/{}", "lines", "nothing"),
    ):
        others, nothing = (api.get(path.format(value), headers=sent) for value in (there, missing))
        assert others.status_code == nothing.status_code == 404
        assert others.text.replace(str(there), str(missing)) == nothing.text
        assert others.headers.keys() == nothing.headers.keys()
    for query in (f"customer=eq.{OTHER}", f"order_id=eq.{IDS[OTHER]}", f"customer=like.{OTHER[:6]}*"):
        answers = [api.get(f"/v1/views/orders?{each}", headers=sent) for each in (query, "order_id=eq.999")]
        assert {answer.text for answer in answers} == {"[]"}
        assert answers[0].headers["ETag"] == answers[1].headers["ETag"]


def test_the_document_shows_what_the_caller_may_see(mesh: Mesh, api: httpx.Client) -> None:
    def told(sent: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = api.get("/openapi.json", headers=sent).json()
        return found

    clerk = told(headers(mesh.settings, "clerk"))
    schema = clerk["paths"]["/v1/views/orders/{key}"]["get"]["responses"]["200"]["content"][
        "application/json"
    ]["schema"]
    assert schema["properties"].keys() == {"order_id", "total"}
    for hidden in ("/v1/views/lines", "/v1/admin/views"):
        assert hidden not in clerk["paths"]
    for sent in ({}, headers(mesh.settings, "stranger")):
        assert "/v1/views/orders" not in told(sent)["paths"]
    assert "shipment_count" not in json.dumps(clerk)


def test_what_is_said_centrally_holds_at_once_everywhere(mesh: Mesh, api: httpx.Client) -> None:
    boss = headers(mesh.settings, "admin")

    def said(method: str, path: str, body: Any = None) -> None:
        """Say it to one process, and wait until it is applied at the other."""
        answer = api.request(
            method, f"/v1/admin/{path}", headers=boss, **({} if body is None else {"json": body})
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["changed_by"] == "admin"
        position = answer.headers["Mesh-Position"]
        waited = other.get(
            "/v1/admin/views", headers=boss | {"Mesh-Min-Position": position, "Prefer": "wait=10"}
        )
        assert waited.status_code == 200, waited.text

    def rows(role: str) -> list[list[str]]:
        found = []
        for each in (api, other):
            answer = each.get("/v1/views/orders", headers=headers(mesh.settings, role))
            found.append(sorted(answer.json()[0]) if answer.status_code == 200 else [str(answer.status_code)])
        return found

    with served(mesh.settings) as other:
        assert rows("clerk") == [["order_id", "total"]] * 2
        said("PUT", "grants/clerk/view:orders", {"rules": [{"columns": ["express"]}]})
        assert rows("clerk") == [["express", "order_id"]] * 2
        said("PUT", "grants/clerk/view:orders", {"rules": []})
        assert rows("clerk") == [["404"]] * 2
        said("DELETE", "grants/clerk/view:orders")
        assert rows("clerk") == [["order_id", "total"]] * 2
        said("PUT", "roles/clerk", {"doc": "On holiday.", "suspended": True})
        assert rows("clerk") == [["404"]] * 2
        (told,) = [
            each for each in other.get("/v1/admin/roles", headers=boss).json() if each["role"] == "clerk"
        ]
        assert (told["doc"], told["suspended"], told["changed_by"]) == ("On holiday.", True, "admin")
        assert all("suspended" in each["inert"] for each in told["grants"])
        said("DELETE", "roles/clerk")
        assert rows("clerk") == [["order_id", "total"]] * 2
        assert rows("stranger") == [["404"]] * 2
        said(
            "PUT",
            "grants/stranger/view:orders",
            {"rules": [{"where": [{"column": "order_id", "op": "eq", "value": 2}]}]},
        )
        found = other.get("/v1/views/orders", headers=headers(mesh.settings, "stranger")).json()
        assert [row["customer"] for row in found] == [OTHER]
        said("DELETE", "grants/stranger/view:orders")
        assert rows("stranger") == [["404"]] * 2
        listed = other.get("/v1/admin/grants", headers=boss).json()
        assert {(each["role"], each["origin"], each["inert"]) for each in listed} == {
            ("clerk", "declared", None),
            ("customer", "declared", None),
        }


def test_an_event_that_says_no_rules_gives_nothing_and_harms_nobody_else(
    mesh: Mesh, api: httpx.Client
) -> None:
    boss = headers(mesh.settings, "admin")

    def seen(role: str) -> int:
        return api.get("/v1/views/orders", headers=headers(mesh.settings, role)).status_code

    said = {"role": "clerk", "resource": "view:orders", "changed_by": "somebody who writes to Kafka"}
    mesh.publisher.publish(GrantMade.model_validate(said | {"rules": [{"where": [{}]}]}))
    mesh.publisher.flush()
    mesh.wait_caught_up()
    try:
        assert (seen("clerk"), seen("customer"), seen("admin")) == (404, 200, 200)
        (listed,) = [
            each for each in api.get("/v1/admin/grants", headers=boss).json() if each["origin"] == "central"
        ]
        assert "column" in listed["inert"]
    finally:
        assert api.delete("/v1/admin/grants/clerk/view:orders", headers=boss).status_code == 200
        mesh.wait_caught_up()
    assert seen("clerk") == 200


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("grants/clerk/view:nothing", {"rules": [{}]}, "which there is not"),
        ("grants/clerk/view:orders", {"rules": [{"columns": ["nothing"]}]}, "does not have"),
        ("grants/clerk/view:orders", {"rules": [{"where": [{"column": "extra", "op": "eq", "claim": "x"}]}]}, "no claim equals"),
        ("grants/clerk/orders", {"rules": []}, "no resource"),
        ("grants/admin/view:orders", {"rules": []}, "everything already"),
        ("grants/clerk/view:orders", {"rules": 7}, "rules"),
        ("roles/admin", {}, "everything already"),
        ("roles/a%20b", {}, "cannot be granted"),
        ("roles/clerk", {"suspended": "yes"}, "suspended"),
    ],
)  # fmt: skip
def test_what_cannot_be_granted_is_refused(
    mesh: Mesh, api: httpx.Client, path: str, body: Any, said: str
) -> None:
    answer = api.put(f"/v1/admin/{path}", json=body, headers=headers(mesh.settings, "admin"))
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
