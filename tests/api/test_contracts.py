"""Contracts that services register over HTTP, and the document of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mesh_core.model import Catalog
from mesh_core.model.builtin import ContractsRegistered
from mesh_core.model.grants import CONTRACTS, grant, publishing
from mesh_core.settings import Settings
from mesh_core.tokens import development_token
from tests.api.conftest import served
from tests.emit.outboxes import in_the_log
from tests.read.declarations import Line, Order, Shipment, orders
from tests.support.mesh import Mesh, wait_for
from tests.support.services import Services, fresh_settings

SENT = {
    "description": "A parcel has left.",
    "type": "object",
    "required": ["parcel_id"],
    "properties": {"parcel_id": {"type": "string"}, "weight": {"type": ["number", "null"], "minimum": 0.5}},
}
KIND = "courier.parcel.sent.v1"
CATALOG = Catalog.of(
    entities=[Order, Line, Shipment],
    views=[orders],
    grants=[
        grant(publishing("courier"), "courier"),
        grant(publishing("sales"), "sales"),
        grant(CONTRACTS, "reader"),
    ],
)


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
        with made.projecting():
            yield made
        made.close()


@pytest.fixture(scope="module")
def api(mesh: Mesh) -> Iterator[httpx.Client]:
    with served(mesh.settings) as client:
        yield client


@pytest.fixture(scope="module")
def other(mesh: Mesh) -> Iterator[httpx.Client]:
    """Another process of the API."""
    with served(mesh.settings) as client:
        yield client


def token(settings: Settings, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {development_token(settings, [role], {}, role, 5)}"}


@pytest.fixture
def courier(mesh: Mesh) -> dict[str, str]:
    return token(mesh.settings, "courier")


def put(
    api: httpx.Client, headers: dict[str, str], contracts: Any, service: str = "courier", **asked: str
) -> httpx.Response:
    return api.put(
        f"/v1/services/{service}/contracts", json={"contracts": contracts}, headers=headers, params=asked
    )


def sent(number: int, **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"parcel-{number}", "source": "/courier", "type": KIND, "subject": str(number),
        "data": {"parcel_id": str(number)} | data,
    }  # fmt: skip


def post(api: httpx.Client, headers: dict[str, str], event: Any) -> httpx.Response:
    return api.post(
        "/v1/events",
        content=json.dumps(event),
        headers=headers | {"Content-Type": "application/cloudevents+json"},
    )


def applied(api: httpx.Client, headers: dict[str, str], answer: httpx.Response) -> httpx.Response:
    """What is registered once the answer's position is reached."""
    asked = headers | {"Mesh-Min-Position": answer.headers["mesh-position"], "Prefer": "wait=20"}
    return api.get("/v1/services/courier/contracts", headers=asked)


def test_a_service_joins_registers_publishes_and_leaves(
    mesh: Mesh, api: httpx.Client, other: httpx.Client, courier: dict[str, str]
) -> None:
    admin = token(mesh.settings, "admin")
    assert api.get("/v1/services/courier/contracts", headers=courier).status_code == 404
    assert post(api, courier, sent(1)).json()["errors"][0]["reason"] == "unknown_type"

    registered = put(api, courier, {KIND: SENT})
    assert registered.status_code == 200, registered.text
    assert registered.json()["changes"] == [
        {"type": KIND, "path": "", "what": "type added", "breaks": {"backward": None, "forward": None}}
    ]
    # Whoever does not wait for it may be told that the type is unknown.
    at_once = courier | {"Mesh-Min-Position": registered.headers["mesh-position"], "Prefer": "wait=20"}
    assert post(other, at_once, sent(7)).status_code == 202
    never = courier | {"Mesh-Min-Position": '{"mesh.events":{"0":99999}}'}
    assert post(other, never, sent(7)).status_code == 504
    told = applied(api, courier, registered)
    assert told.status_code == 200, told.text
    assert (told.json()["contracts"], told.json()["registered_by"]) == ({KIND: SENT}, "courier")

    for number, client in enumerate((api, other)):
        published = post(client, courier, sent(number))
        assert published.status_code == 202, published.text
        refused = post(client, courier, sent(9, weight=0.25))
        assert refused.json()["errors"][0]["detail"].endswith("at `$.data.weight`")
        assert KIND in client.get("/asyncapi.json", headers=admin).json()["components"]["messages"]
    there = {event["id"] for event in in_the_log(mesh.driver, "courier.events")}
    assert there == {"parcel-7", "parcel-0", "parcel-1"}

    gone = api.delete("/v1/services/courier/contracts", headers=courier)
    assert gone.status_code == 200, gone.text
    assert applied(api, courier, gone).status_code == 404
    assert post(api, courier, sent(3)).status_code == 422
    wait_for(lambda: KIND not in other.get("/asyncapi.json", headers=admin).text)
    mesh.assert_sound()


def test_what_would_break_others_is_refused(api: httpx.Client, courier: dict[str, str]) -> None:
    applied(api, courier, put(api, courier, {KIND: SENT}, compatibility="none"))
    stricter = SENT | {"required": ["parcel_id", "weight"]}
    refused = put(api, courier, {KIND: stricter})
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["type"] == "urn:flexmesh:problem:incompatible-contracts"
    assert [(each["path"], each["what"]) for each in problem["errors"]] == [
        ("$.data.weight", "made required")
    ]
    assert put(api, courier, {KIND: stricter}, compatibility="backward").status_code == 409
    assert put(api, courier, {f"{KIND[:-1]}2": stricter}).status_code == 409, "the first would be gone"
    assert put(api, courier, {KIND: stricter}, compatibility="forward").status_code == 200
    assert put(api, courier, {KIND: stricter}, compatibility="all").status_code == 422
    wider = put(api, courier, {KIND: SENT, f"{KIND[:-1]}2": stricter}, compatibility="none")
    assert applied(api, courier, wider).json()["contracts"].keys() == {KIND, f"{KIND[:-1]}2"}
    assert put(api, courier, {KIND: SENT, f"{KIND[:-1]}2": stricter}).json()["changes"] == []


@pytest.mark.parametrize(
    ("contracts", "status", "said"),
    [
        ({"sales.order.packed.v1": SENT}, 422, "not an event of courier"),
        ({"courier.parcel.v1": SENT}, 422, "is not a type of event"),
        ({KIND: {"type": "string"}}, 422, "at $ is not an object"),
        ({KIND: SENT | {"allOf": []}}, 422, "$.allOf is not understood"),
        ({KIND: 7}, 422, "at $ is not a schema"),
        ({}, 422, "`contracts` is empty."),
        ([], 422, "not an object with `contracts`"),
        ({KIND: SENT | {"description": "x" * 300_000}}, 413, "more than 262,144"),
    ],
)
def test_what_is_no_contract_is_refused(
    api: httpx.Client, courier: dict[str, str], contracts: Any, status: int, said: str
) -> None:
    answer = put(api, courier, contracts)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


def test_nobody_speaks_for_others(mesh: Mesh, api: httpx.Client, courier: dict[str, str]) -> None:
    sales, admin = token(mesh.settings, "sales"), token(mesh.settings, "admin")
    for method in ("GET", "PUT", "DELETE"):
        answer = api.request(
            method, "/v1/services/courier/contracts", headers=sales, json={"contracts": {KIND: SENT}}
        )
        assert answer.status_code == 403
        assert api.request(method, "/v1/services/courier/contracts", json={}).status_code == 401
    newer = put(api, sales, {"sales.order.placed.v2": SENT}, "sales")
    assert (newer.status_code, "only sales.order.placed.v1 refuse it" in newer.json()["detail"]) == (
        409,
        True,
    )
    code = put(api, sales, {"sales.order.placed.v1": SENT}, "sales")
    assert (code.status_code, "declared in the code" in code.json()["detail"]) == (422, True)
    assert put(api, admin, {"mesh.workflow.made.v1": SENT}, "mesh").status_code == 422
    assert put(api, admin, {"No.a.b.v1": SENT}, "No").status_code == 422


def test_the_document_has_what_may_be_seen(mesh: Mesh, api: httpx.Client, courier: dict[str, str]) -> None:
    applied(api, courier, put(api, courier, {KIND: SENT}, compatibility="none"))

    def channels(role: str) -> set[str]:
        return set(api.get("/asyncapi.json", headers=token(mesh.settings, role)).json()["channels"])

    everything = {"sales.events", "logistics.events", "mesh.events", "courier.events"}
    assert channels("admin") == channels("reader") == everything
    assert channels("courier") == {"courier.events"}
    assert channels("sales") == {"sales.events"}
    assert channels("stranger") == set()
    assert api.get("/asyncapi.json").status_code == 401
    first = api.get("/asyncapi.json", headers=courier)
    again = api.get("/asyncapi.json", headers=courier | {"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_contracts_that_nobody_checked_are_left_out(mesh: Mesh, api: httpx.Client) -> None:
    bad = ContractsRegistered(
        owner="broken", contracts={"broken.a.b.v1": {"type": "text"}}, registered_by="x"
    )
    mesh.publish(bad, "broken")
    mesh.publisher.flush()
    mesh.wait_caught_up()
    admin = token(mesh.settings, "admin")
    assert "broken.events" not in api.get("/asyncapi.json", headers=admin).json()["channels"]


def test_the_page_and_its_files_are_served(api: httpx.Client) -> None:
    page = api.get("/asyncapi")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for path, kind in (("/asyncapi/page.js", "text/javascript"), ("/asyncapi/page.css", "text/css")):
        assert path in page.text
        assert api.get(path).headers["content-type"].startswith(kind)
