"""Views that are registered over HTTP: checked, deployed, changed and removed as those of the code; real Kafka and Postgres."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import hypothesis
import jsonschema_rs
import psycopg
import pytest
import schemathesis
from pydantic import SecretStr
from schemathesis.checks import CHECKS

from api.declarations import documents
from mesh_core.engine.announcing import MOST
from mesh_core.engine.estimating import estimate
from mesh_core.engine.pruning import prune_all
from mesh_core.errors import UsageError
from mesh_core.model import Catalog, DeclarationError, View
from mesh_core.model.builtin import ViewRegistered
from mesh_core.read.status import mesh_status
from mesh_core.read.subject import Subject
from mesh_core.settings import ROOT, Settings
from mesh_core.store.deploys import LOCK
from tests.api.conftest import served
from tests.model.test_view_data import TREES
from tests.read.declarations import Line, Order, OrderPlaced, Shipment, ShipmentBooked, catalog, shipments
from tests.support.mesh import Mesh, wait_for
from tests.support.services import Services, environment_of, fresh_database, fresh_settings

KEY = {"name": "order_id", "expression": {"column": "order_id"}}
TO_SHIPMENTS = {"kind": "many", "target": "logistics.shipment", "target_columns": ["order_id"]}
AWAITED = {"Prefer": "wait=10"}


def small(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "root": "sales.order", "columns": [KEY], **more}


@pytest.fixture(scope="module")
def mesh(services: Services) -> Iterator[Mesh]:
    """The small mesh, with a projector at work and two orders in it."""
    with fresh_settings(services, catalog="tests.read.declarations", projector_poll_seconds=0.05) as settings:
        made = Mesh(settings, catalog, partitions=1)
        made.deploy()
        for number in (7, 8):
            made.publish(placed(number), number)
        with made.projecting():
            made.wait_caught_up()
            yield made
        made.close()


@pytest.fixture(scope="module")
def api(mesh: Mesh) -> Iterator[httpx.Client]:
    with served(mesh.settings) as client:
        yield client


def placed(number: int) -> OrderPlaced:
    return OrderPlaced.model_validate(
        {
            "order_id": number,
            "customer": "ALFKI",
            "total": "1.5",
            "express": True,
            "placed_at": "2026-01-01T00:00:00Z",
        }
    )


def put(api: httpx.Client, declaration: dict[str, Any]) -> httpx.Response:
    """Register a view, and wait until it is read back."""
    answer = api.put(f"/v1/admin/views/{declaration['name']}", json=declaration)
    assert answer.status_code == 200, answer.text
    found = api.get(f"/v1/admin/views/{declaration['name']}", headers=after(answer))
    assert found.json()["declaration"] == answer.json()["declaration"]
    return answer


def after(answer: httpx.Response) -> dict[str, str]:
    return {"Mesh-Min-Position": answer.headers["mesh-position"], **AWAITED}


def deployed(api: httpx.Client, **wishes: Any) -> dict[str, Any]:
    """Deploy and wait for what comes of it."""
    asked = api.post("/v1/admin/deploys", json=wishes)
    assert (asked.status_code, asked.json()["state"]) == (202, "waiting"), asked.text
    where = asked.headers["location"]
    wait_for(lambda: api.get(where).json()["state"] not in ("waiting", "running"), 60, "the deploy")
    found: dict[str, Any] = api.get(where).json()
    return found


def changes(api: httpx.Client) -> dict[str, str]:
    found = api.get("/v1/admin/plan").json()
    assert found["warnings"] == []
    changed = {step["name"]: step["change"] for step in found["steps"] if step["change"] != "unchanged"}
    assert found["changes"] == bool(set(changed.values()) - {"unused"})
    return changed


def test_a_view_is_registered_deployed_changed_and_removed(mesh: Mesh, api: httpx.Client) -> None:
    first = put(api, small("journey", doc="An order."))
    assert first.json()["declaration"]["columns"][0]["type"] == {"kind": "int"}
    assert api.get("/v1/admin/views").json()[-1]["name"] == "journey"
    assert changes(api) == {"journey": "new"}
    ready = api.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (200, ["Registered, not deployed: journey."])
    done = deployed(api)
    assert (done["state"], done["started_by"]) == ("done", "anonymous")
    assert [step["name"] for step in done["plan"] if step["change"] == "new"] == ["journey"]
    assert [(build["name"], build["done"]) for build in done["builds"]] == [("journey", 2)]
    assert api.get("/v1/views/journey").json() == [{"order_id": 7}, {"order_id": 8}]
    assert changes(api) == {}

    counted = {"name": "n", "expression": {"rollup": "count", "path": [TO_SHIPMENTS]}}
    put(api, small("journey") | {"columns": [KEY, counted]})
    assert changes(api) == {"journey": "changed"}
    assert deployed(api)["state"] == "done"
    assert api.get("/v1/views/journey").json() == [{"order_id": 7, "n": 0}, {"order_id": 8, "n": 0}]
    mesh.assert_sound()

    removed = api.delete("/v1/admin/views/journey")
    assert removed.status_code == 200
    assert api.get("/v1/admin/views/journey", headers=after(removed)).status_code == 404
    assert changes(api) == {"journey": "unused"}
    prune_all(mesh.database_url, catalog, ["journey"])
    assert api.get("/v1/views/journey").status_code == 404


def test_a_deploy_has_all_that_was_acknowledged_before_it(api: httpx.Client) -> None:
    for number in range(3):  # nobody waits for the projector but the deploy itself
        name = f"at_once_{number}"
        assert api.put(f"/v1/admin/views/{name}", json=small(name)).status_code == 200
        done = deployed(api)
        assert [step["name"] for step in done["plan"] if step["change"] == "new"] == [name]
        assert done["detail"] is None
        assert api.delete(f"/v1/admin/views/{name}", headers=AWAITED).status_code == 200
        assert changes(api)[name] == "unused"


def test_what_is_declared_in_code_is_the_same_as_data(mesh: Mesh, api: httpx.Client) -> None:
    view = View("twin", Order, order_id=Order.order_id, n=shipments.count(), doc="Both.", cache=5)
    declared = Catalog.of(entities=[Order, Line, Shipment], views=[view])
    put(api, view.model.to_document())
    assert deployed(api)["state"] == "done"
    assert mesh.query("SELECT fingerprint FROM mesh.versions WHERE name = 'twin'") == [
        (declared.fingerprint("twin"),)
    ]
    # Moved into the code, nothing is built, and the registration is in nobody's way.
    assert {
        cost.change
        for cost in estimate(mesh.database_url, declared, mesh.driver).costs
        if cost.name == "twin"
    } == {"unchanged"}
    other = Catalog.of(entities=[Order, Line, Shipment], views=[View("twin", Order, order_id=Order.order_id)])
    with pytest.raises(
        DeclarationError, match=r"registered view twin .* declared twice, differently.*DELETE"
    ):
        estimate(mesh.database_url, other, mesh.driver)


REFUSED = [
    ("v", small("v") | {"root": "sales.nothing"}, "v: root: there is no entity 'sales.nothing'."),
    ("v", small("w"), "The declaration is of w, not of v."),
    ("orders", small("orders"), "View orders is declared in the code."),
    ("sales_line", small("sales_line"), "View sales_line has the name of the entity sales.line."),
    ("v", small("v", sql="SELECT 1"), "v: sql belongs to a view of its own SQL"),
    ("v", {"columns": []}, "The declaration has no name."),
    (
        "v",
        small("v") | {"columns": [KEY, {"name": "x", "expression": {"column": "nix"}}]},
        "v.x: sales.order has no",
    ),
]


@pytest.mark.parametrize(("name", "body", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_what_cannot_work_is_refused_when_it_is_registered(
    api: httpx.Client, name: str, body: dict[str, Any], said: str
) -> None:
    answer = api.put(f"/v1/admin/views/{name}", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:flexmesh:problem:declaration-error")
    assert problem["detail"].startswith(said)
    assert problem["remedy"]


def test_a_removal_is_of_what_is_registered(api: httpx.Client) -> None:
    for name in ("orders", "nothing", "a%00b"):
        answer = api.delete(f"/v1/admin/views/{name}")
        assert (answer.status_code, answer.json()["type"]) in (
            (404, "urn:flexmesh:problem:view-not-registered"),
            (400, "urn:flexmesh:problem:invalid-key"),
        )


ODD = "100% 's \\ \" {x} %s %(y)s $1 ; -- \u00fc"


def test_constants_are_only_ever_values(mesh: Mesh, api: httpx.Client) -> None:
    is_odd = {"op": "=", "left": {"column": "customer"}, "right": {"value": ODD}}
    to_order = {"kind": "one", "target": "sales.order", "source_columns": ["order_id"]}
    columns = {
        "odd": {"value": ODD},
        "same": is_odd,
        "shipments": {
            "rollup": "count",
            "path": [TO_SHIPMENTS],
            "where": {
                "op": "<>",
                "left": {"column": "customer", "path": [to_order]},
                "right": {"value": ODD},
            },
        },
        "nothing": {"value": None},
        "exact": {"op": "*", "left": {"value": 3}, "right": {"decimal": "0.10"}},
        "large": {"op": "+", "left": {"value": 10**30}, "right": {"value": 0.25}},
    }
    put(
        api,
        small("odd")
        | {"columns": [KEY, *({"name": name, "expression": it} for name, it in columns.items())]},
    )
    done = deployed(api)
    assert done["state"] == "done", done["detail"]
    mesh.publish(placed(9).model_copy(update={"customer": ODD}), 9)
    mesh.publish(ShipmentBooked(shipment_id=UUID(int=7), order_id=7), UUID(int=7))
    mesh.wait_caught_up()
    mesh.assert_sound()
    rows = mesh.rows_of("odd")
    assert {row["order_id"]: (row["same"], row["shipments"]) for row in rows} == {
        7: (False, 1),
        8: (False, 0),
        9: (True, 0),
    }
    assert (rows[0]["odd"], rows[0]["nothing"], rows[0]["exact"]) == (ODD, None, Decimal("0.30"))
    assert rows[0]["large"] == Decimal(f"{10**30}.25")


def test_presentation_changes_without_a_build(mesh: Mesh, api: httpx.Client) -> None:
    shown = small("shown")
    put(api, shown)
    deployed(api)
    before = mesh.query("SELECT relation FROM mesh.versions WHERE name = 'shown' AND state = 'live'")
    assert api.get("/v1/views/shown").headers["cache-control"] == "private, no-cache"
    assert told(api) == {"doc": "", "columns": {}}

    documented = shown | {"doc": "What is shown.", "cache": 30, "columns": [KEY | {"doc": "Its number."}]}
    put(api, documented)
    (step,) = [step for step in api.get("/v1/admin/plan").json()["steps"] if step["name"] == "shown"]
    assert (step["change"], step["details"]) == (
        "annotated",
        ["what is said of it", "what is said of order_id", "cache level is 30, was no-cache"],
    )
    assert deployed(api)["builds"] == []
    assert mesh.query("SELECT relation FROM mesh.versions WHERE name = 'shown' AND state = 'live'") == before
    assert told(api) == {"doc": "What is shown.", "columns": {"order_id": "Its number."}}
    for path in ("/v1/views/shown", "/v1/views/shown/7"):
        answer = api.get(path)
        assert answer.headers["cache-control"] == "private, max-age=30"
        assert {"Authorization", "Mesh-Min-Position", "Prefer"} <= set(answer.headers["vary"].split(", "))
        same = api.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (same.status_code, same.headers["cache-control"]) == (304, "private, max-age=30")
        young = api.get(path, headers={"Prefer": "max-staleness=600"})
        assert young.headers["cache-control"] == "private, no-cache"
    operation = api.get("/openapi.json").json()["paths"]["/v1/views/shown"]["get"]
    assert operation["description"].startswith("What is shown.")

    put(api, documented | {"cache": "no-store"})
    deployed(api)
    assert api.get("/v1/views/shown/7").headers["cache-control"] == "private, no-store"


def told(api: httpx.Client) -> dict[str, Any]:
    """What the catalogue says of the view `shown`."""
    (view,) = [view for view in api.get("/v1/views").json() if view["name"] == "shown"]
    return {
        "doc": view["doc"],
        "columns": {column["name"]: column["doc"] for column in view["columns"] if "doc" in column},
    }


def test_only_the_admin_may(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    before = api.get("/v1/admin/deploys").json(), api.get("/v1/admin/views").json()
    described = api.get("/openapi.json").json()

    async def eve(_: object) -> Subject:
        return Subject("eve", ("administrator", "sales"), {})

    monkeypatch.setattr("api.context.subject_of", eve)
    asked = [
        (method, path)
        for path, methods in described["paths"].items()
        for method in methods
        if path.startswith(("/v1/admin/views", "/v1/admin/plan", "/v1/admin/deploys"))
    ]
    assert len(asked) == 8
    for method, path in asked:
        answer = api.request(method, path.replace("{name}", "orders").replace("{number}", "1"))
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:flexmesh:problem:forbidden"), path
    monkeypatch.undo()
    assert (api.get("/v1/admin/deploys").json(), api.get("/v1/admin/views").json()) == before


def test_routes_of_the_admin_answer_as_documented(api: httpx.Client) -> None:
    schema = schemathesis.openapi.from_url(f"{api.base_url}/openapi.json")
    # Not the deploys that a POST would begin; what it answers is in the other tests.
    found = schema.include(path_regex="^/v1/admin/").exclude(method="POST")
    for result in found.get_all_operations():

        @hypothesis.settings(max_examples=6, deadline=None, database=None, derandomize=True)
        @hypothesis.given(case=result.ok().as_strategy())  # type: ignore[union-attr]
        def answered(case: Any) -> None:
            # A name and a cursor that are none, and views of entities that there are not, are refused.
            case.call_and_validate(excluded_checks=[CHECKS.get_one("positive_data_acceptance")])

        answered()


def test_deploys_that_are_asked_for_at_once_follow_one_another(api: httpx.Client) -> None:
    asked = [api.post("/v1/admin/deploys") for _ in range(2)]
    assert {answer.status_code for answer in asked} == {202}
    for answer in asked:
        where = answer.headers["location"]
        wait_for(lambda where=where: api.get(where).json()["state"] == "done", 60, where)  # type: ignore[misc]
    newest = api.get("/v1/admin/deploys", params={"limit": "1"})
    assert newest.json()[0]["id"] == max(answer.json()["id"] for answer in asked)
    assert 'rel="next"' in newest.headers["link"]
    assert api.get("/v1/admin/deploys/999999").json()["type"] == "urn:flexmesh:problem:deploy-not-found"


def test_a_deploy_ends_with_the_api_that_was_asked_for_it(mesh: Mesh, api: httpx.Client) -> None:
    with (
        psycopg.connect(mesh.database_url, autocommit=True, application_name="another deploy") as other,
        subprocess.Popen(
            [sys.executable, "-m", "mesh_core.cli", "api", "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment_of(mesh.settings) | {"MESH_LOG_FORMAT": "json"},
            cwd=ROOT,
        ) as process,
    ):
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        assert process.stderr
        url = process.stderr.readline().split()[1]
        where = httpx.post(f"{url}/v1/admin/deploys", timeout=20).headers["location"]
        assert api.get(where).json()["state"] == "waiting"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        wait_for(lambda: api.get(where).json()["state"] == "interrupted", what="its end")
    assert deployed(api)["state"] == "done"


def test_a_deploy_that_cannot_be_says_why_in_its_record(mesh: Mesh, api: httpx.Client) -> None:
    # Somebody published what the API would have refused.
    gone = {"name": "broken", "root": "sales.gone", "columns": []}
    mesh.publisher.publish(ViewRegistered(name="broken", declaration=gone, registered_by="test")).result(10)
    mesh.wait_caught_up()
    refused = deployed(api)
    assert refused["state"] == "refused"
    assert "registered view broken does not fit" in refused["detail"]
    assert "DELETE /v1/admin/views/broken" in refused["detail"]
    assert api.get("/v1/admin/plan").status_code == 422
    assert api.get("/readyz").status_code == 200
    removed = api.delete("/v1/admin/views/broken")
    assert removed.status_code == 200
    assert api.get("/v1/admin/views", headers=after(removed)).status_code == 200
    assert deployed(api)["state"] == "done"


def test_registered_views_are_rebuilt_and_come_back_with_the_log(mesh: Mesh, api: httpx.Client) -> None:
    put(api, small("kept"))
    deployed(api)
    assert {
        step.change for step in mesh.deploy(rebuild=["kept"], nothing_else=True).steps if step.name == "kept"
    } == {"rebuilt"}
    with pytest.raises(UsageError, match=r"declares no 'nix'.*kept"):
        mesh.deploy(rebuild=["nix"])
    with pytest.raises(UsageError, match="kept is declared in the catalog"):
        prune_all(mesh.database_url, catalog, ["kept"])
    # A database without anything: one deploy brings all back from the log.
    with fresh_database(mesh.database_url) as url:
        settings = mesh.settings.model_copy(update={"database_url": SecretStr(url)})
        again = Mesh(settings, catalog)
        report = again.deploy()
        assert {step.change for step in report.steps if step.name == "kept"} == {"new"}
        assert {7, 8} <= {row["order_id"] for row in again.rows_of("kept")}


def test_a_deploy_says_what_nobody_has_applied(settings: Settings) -> None:
    mesh = Mesh(settings.model_copy(update={"catalog": "tests.read.declarations"}), catalog)
    mesh.deploy()
    with served(mesh.settings) as api:
        assert api.put("/v1/admin/views/early", json=small("early")).status_code == 200
        report = mesh.deploy()
        (said,) = report.warnings
        assert said.startswith("Of mesh.events the last 1 are not applied yet, and no projector")
        assert api.get("/v1/admin/deploys").json()[0]["detail"] == said
        mesh.project()
        assert {step.name for step in mesh.deploy().steps if step.change == "new"} == {"early"}
    mesh.close()


def test_without_a_schema_or_a_database_the_admin_is_told(mesh: Mesh, database_url: str) -> None:
    for url, kind in (
        (database_url, "not-migrated"),
        ("postgresql://x@127.0.0.1:1/x", "dependency-unavailable"),
    ):
        settings = mesh.settings.model_copy(update={"database_url": SecretStr(url)})
        with served(settings) as api:
            for answer in (api.get("/v1/admin/plan"), api.post("/v1/admin/deploys")):
                assert (answer.status_code, answer.json()["type"]) == (503, f"urn:flexmesh:problem:{kind}")


def test_no_more_deploys_wait_than_may(mesh: Mesh, api: httpx.Client) -> None:
    with psycopg.connect(mesh.database_url, autocommit=True, application_name="another deploy") as other:
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        asked = [api.post("/v1/admin/deploys") for _ in range(MOST + 1)]
        assert [answer.status_code for answer in asked] == [202] * MOST + [503]
        assert asked[-1].json()["type"] == "urn:flexmesh:problem:too-many-deploys"
        assert waiting(mesh) == "waiting"
        other.execute("UPDATE mesh.deploys SET state = 'running' WHERE id = %s", (asked[0].json()["id"],))
        assert waiting(mesh) == "running", "what is under way is told of, though others came after"
    for answer in asked[:-1]:
        where = answer.headers["location"]
        wait_for(lambda where=where: api.get(where).json()["state"] == "done", 60, where)  # type: ignore[misc]


def waiting(mesh: Mesh) -> str | None:
    """How the deploy is that `mesh status` tells of."""
    found = mesh_status(mesh.database_url).deploy
    return found and found.state


def test_the_schema_takes_what_the_code_gives() -> None:
    form = {"$ref": "#/components/schemas/ViewDeclaration", "components": {"schemas": documents.SCHEMAS}}
    validator = jsonschema_rs.validator_for(form)
    validator.validate(documents.EXAMPLE)
    for _, view in TREES:
        validator.validate(json.loads(json.dumps(view.to_document())))
    assert not validator.is_valid(documents.EXAMPLE | {"sql": "SELECT 1"})


def test_the_example_of_the_documentation_works() -> None:
    model = Catalog.load("projections.northwind").registrable("customer_worth", documents.EXAMPLE)
    assert [column.type.kind for column in model.columns] == ["text", "text", "int", "numeric"]
