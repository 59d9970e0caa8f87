"""The history of a row over HTTP: what each role sees of it, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import jsonschema_rs
import psutil
import pytest

from api import histories
from mesh_core.model import Catalog
from mesh_core.model.grants import TIMELINE, claim, column, grant
from mesh_core.settings import Settings
from mesh_core.tokens import development_token
from tests.api.conftest import served
from tests.read.declarations import (
    Line,
    Order,
    OrderPlaced,
    Shipment,
    ShipmentBooked,
    lines,
    orders,
    shipment_orders,
)
from tests.support.mesh import Mesh, wait_for
from tests.support.services import Services, fresh_settings

OWN, OTHER = "ALFKI", "SECRET-OF-QUICK"
FLOW = UUID(int=1)
CATALOG = Catalog.of(
    entities=[Order, Line, Shipment],
    views=[orders, lines, shipment_orders],
    grants=[
        grant(orders, "clerk", columns=["total"]),
        grant(TIMELINE, "clerk"),
        grant(orders, "counter", columns=["shipment_count"]),
        grant(TIMELINE, "counter"),
        grant(orders, "blind"),
        grant(orders, "customer", where=claim("customer") == column("customer")),
        grant(TIMELINE, "customer"),
    ],
)


def placed(customer: str, total: str) -> OrderPlaced:
    return OrderPlaced(
        order_id=1, customer=customer, total=Decimal(total), express=True, placed_at="2026-01-01T00:00:00Z"
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mesh(services: Services) -> Iterator[Mesh]:
    """Order 1 is ALFKI's, costs more, is somebody else's for a while, costs more again; and is shipped once."""
    with fresh_settings(
        services,
        catalog="tests.read.declarations",
        auth_key="a shared secret that is long enough",
        auth_anonymous_role=None,
    ) as settings:
        made = Mesh(settings, CATALOG, partitions=1)
        made.deploy()
        for customer, total in ((OWN, "1.50"), (OWN, "2"), (OTHER, "2"), (OTHER, "77"), (OWN, "77")):
            made.publish(placed(customer, total), 1, workflow=FLOW)
            made.publisher.flush()
        shipment = UUID(int=9)
        made.publish(ShipmentBooked(shipment_id=shipment, order_id=1), shipment)
        made.project()
        yield made
        made.close()


@pytest.fixture(scope="module")
def api(mesh: Mesh) -> Iterator[httpx.Client]:
    with served(mesh.settings) as client:
        yield client


def token(settings: Settings, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {development_token(settings, [role], {'customer': OWN}, role, 5)}"}


def history(mesh: Mesh, api: httpx.Client, role: str, path: str = "orders/1", **given: str) -> httpx.Response:
    return api.get(f"/v1/views/{path}/history", params=given, headers=token(mesh.settings, role))


def steps(answer: httpx.Response) -> list[tuple[str | None, str, dict[str, Any]]]:
    """(type, change, columns) of the steps, the oldest first."""
    assert answer.status_code == 200, answer.text
    return [(each["type"], each["change"], each["columns"]) for each in answer.json()[::-1]]


ORDER, BOOKED = "sales.order.placed.v1", "logistics.shipment.booked.v1"


def test_an_admin_sees_each_event_with_what_it_changed(mesh: Mesh, api: httpx.Client) -> None:
    answer = history(mesh, api, "admin")
    found = steps(answer)
    assert [(kind, change) for kind, change, _ in found] == [
        (ORDER, "created"), (ORDER, "changed"), (ORDER, "changed"), (ORDER, "changed"), (ORDER, "changed"),
        (BOOKED, "changed"),
    ]  # fmt: skip
    assert found[1][2] == {"total": {"before": 1.5, "after": 2}}
    assert found[2][2] == {"customer": {"before": OWN, "after": OTHER}}
    assert found[5][2] == {"shipment_count": {"before": 0, "after": 1}}
    first = answer.json()[-1]
    place = (first["service"], first["topic"], first["partition"], first["offset"])
    assert place == ("sales", "sales.events", 0, 0)
    assert (first["subject"], first["workflow_id"], first["released"]) == ("1", str(FLOW), [])
    described = api.get("/openapi.json", headers=token(mesh.settings, "admin")).json()["paths"]
    done = described["/v1/views/orders/{key}/history"]["get"]["responses"]["200"]
    jsonschema_rs.validate(done["content"]["application/json"]["schema"], answer.json())
    assert answer.headers["mesh-position"] == '{"logistics.events":{"0":1},"sales.events":{"0":5}}'


def test_of_columns_that_are_not_granted_there_is_nothing(mesh: Mesh, api: httpx.Client) -> None:
    answer = history(mesh, api, "clerk")
    assert [(kind, set(columns)) for kind, _, columns in steps(answer)] == [
        (ORDER, {"order_id", "total"}), (ORDER, {"total"}), (ORDER, {"total"}),
    ]  # fmt: skip
    assert OTHER not in answer.text
    assert OWN not in answer.text


def test_an_event_that_may_not_be_seen_is_not_told(mesh: Mesh, api: httpx.Client) -> None:
    answer = history(mesh, api, "counter")
    first, last = steps(answer)
    assert first == (ORDER, "created", {
        "order_id": {"before": None, "after": 1}, "shipment_count": {"before": None, "after": 0},
    })  # fmt: skip
    assert last == (None, "changed", {"shipment_count": {"before": 0, "after": 1}})
    shipped = answer.json()[0]
    hidden = (
        "service",
        "type",
        "time",
        "recorded_at",
        "topic",
        "partition",
        "offset",
        "subject",
        "workflow_id",
        "id",
    )
    assert all(shipped[name] is None for name in hidden)


def test_without_the_timeline_no_event_is_told(mesh: Mesh, api: httpx.Client) -> None:
    found = steps(history(mesh, api, "blind"))
    assert len(found) == 6
    assert {kind for kind, _, _ in found} == {None}


def test_while_the_row_was_somebody_elses_it_was_not_there(mesh: Mesh, api: httpx.Client) -> None:
    answer = history(mesh, api, "customer")
    found = steps(answer)
    assert [change for _, change, _ in found] == ["created", "changed", "deleted", "created", "changed"]
    assert found[2][2]["total"] == {"before": 2, "after": None}
    assert found[3][2]["total"] == {"before": None, "after": 77}
    assert OTHER not in answer.text


def test_whoever_may_not_see_the_row_sees_no_history(mesh: Mesh, api: httpx.Client) -> None:
    assert history(mesh, api, "stranger").json()["type"].endswith("view-not-found")
    missing = history(mesh, api, "admin", "orders/2")
    assert (missing.status_code, missing.json()["type"].rpartition(":")[2]) == (404, "row-not-found")
    other = {
        "Authorization": f"Bearer {development_token(mesh.settings, ['customer'], {'customer': 'X'}, 'x', 5)}"
    }
    assert api.get("/v1/views/orders/1/history", headers=other).json()["type"].endswith("row-not-found")


def test_pages_go_back_from_the_newest(mesh: Mesh, api: httpx.Client) -> None:
    whole = history(mesh, api, "admin").json()
    first = history(mesh, api, "admin", limit="4")
    assert first.json() == whole[:4]
    rest = api.get(first.links["next"]["url"], headers=token(mesh.settings, "admin"))
    assert rest.json() == whole[4:]
    assert "next" not in rest.links
    for given in ({"limit": "0"}, {"cursor": "x"}, {"select": "total"}):
        assert history(mesh, api, "admin", **given).status_code == 400


def kind_of(mesh: Mesh, **changed: Any) -> str:
    """The problem that an API with other settings answers with."""
    given = {name: getattr(mesh.settings, name) for name in mesh.settings.model_fields_set}
    with served(Settings(**given | changed)) as api:
        answer = history(mesh, api, "admin")
    told = answer.json()
    assert answer.status_code == told["status"]
    assert "mesh history" in told["remedy"]
    return f"{answer.status_code} {told['type'].rpartition(':')[2]}"


def test_only_so_much_of_the_log_is_read(mesh: Mesh) -> None:
    assert kind_of(mesh, history_events=5) == "422 history-too-long"


def telling() -> set[int]:
    """The processes of the APIs here that tell a history, or are ready to."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has ended, and is not waited for yet
            if any("lineage_process" in each for each in child.cmdline()):
                found.add(child.pid)
    return found


def test_a_process_is_ready_for_the_next_history(mesh: Mesh) -> None:
    before = telling()
    with served(mesh.settings) as api:
        assert history(mesh, api, "admin").status_code == 200
        (ready,) = telling() - before
        assert history(mesh, api, "admin").status_code == 200
        (next_one,) = telling() - before
        assert next_one != ready
    assert telling() == before


def test_only_so_long_is_taken(mesh: Mesh) -> None:
    before = telling()
    assert kind_of(mesh, history_seconds=0.05) == "503 read-timeout"
    assert telling() == before


def test_nobody_is_told_what_nobody_waits_for(mesh: Mesh, api: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        api.get("/v1/views/orders/1/history", headers=token(mesh.settings, "admin"), timeout=0.1)
    wait_for(lambda: not telling(), 10, "the end of the process")


def test_only_so_many_are_told_at_once(
    mesh: Mesh, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "AT_ONCE", 0)
    answer = history(mesh, api, "admin")
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (503, "histories-busy")
    assert answer.headers["retry-after"] == "1"


def test_other_reads_are_answered_meanwhile(mesh: Mesh, api: httpx.Client) -> None:
    """The log is read by a process of its own, so the API is as quick as before."""
    sent = token(mesh.settings, "admin")
    with httpx.Client(base_url=api.base_url, timeout=30) as other:
        api.get("/v1/views/orders/1", headers=sent)
        with pytest.raises(httpx.ReadTimeout):
            other.get("/v1/views/orders/1/history", headers=sent, timeout=0.2)
        begun = time.monotonic()
        assert api.get("/v1/views/orders/1", headers=sent).status_code == 200
        assert time.monotonic() - begun < 2
