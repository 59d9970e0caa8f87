"""Northwind's declarations and its history: known truths from plain Python, without an engine."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from mesh_core.contracts import Refusal, TopicDecoder, Unknown
from mesh_core.log.cloudevents import encode_structured
from mesh_core.model import Catalog, Event
from mesh_core.model.builtin import WorkflowCreated
from mesh_core.settings import ROOT
from projections.northwind import events as declared
from projections.northwind.history import events, workflow_of

CLASSES: dict[str, type[Event]] = {
    kind.type: kind
    for kind in [WorkflowCreated, *vars(declared).values()]
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}


@pytest.fixture(scope="module")
def history() -> list[dict[str, Any]]:
    return list(events())


def of_type(history: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in history if event["type"] == kind]


def totals(history: list[dict[str, Any]]) -> dict[int, Decimal]:
    return {
        event["data"]["order_id"]: sum(
            (
                item["unit_price"] * item["quantity"] * (1 - item["discount"])
                for item in event["data"]["items"]
            ),
            Decimal(0),
        )
        for event in of_type(history, "sales.order.placed.v1")
    }


def test_the_history_holds_what_the_files_hold(history: list[dict[str, Any]]) -> None:
    assert Counter(event["type"] for event in history) == {
        "crm.customer.registered.v1": 93,
        "hr.employee.hired.v1": 9,
        "inventory.category.added.v1": 8,
        "inventory.supplier.registered.v1": 29,
        "inventory.product.added.v1": 77,
        "logistics.shipper.registered.v1": 3,
        "mesh.workflow.created.v1": 830,
        "sales.order.placed.v1": 830,
        "logistics.shipment.booked.v1": 830,
        "logistics.shipment.sent.v1": 830 - 21,
    }


def test_known_truths(history: list[dict[str, Any]]) -> None:
    placed = of_type(history, "sales.order.placed.v1")
    by_order = totals(history)
    assert sum(len(event["data"]["items"]) for event in placed) == 2155
    assert sum(by_order.values()) == Decimal("1265793.0395")
    assert by_order[10248] == Decimal("440.00")
    by_customer: dict[str, Decimal] = defaultdict(Decimal)
    for event in placed:
        by_customer[event["data"]["customer_id"]] += by_order[event["data"]["order_id"]]
    first = max(by_customer, key=lambda customer: by_customer[customer])
    assert (first, by_customer[first]) == ("QUICK", Decimal("110277.3050"))
    assert sum(event["data"]["customer_id"] == "QUICK" for event in placed) == 28


def test_events_come_in_time_order_and_causes_before_effects(history: list[dict[str, Any]]) -> None:
    times = [event["time"] for event in history]
    assert times == sorted(times)
    assert all(time.endswith("Z") for time in times)
    places = {(event["type"], event["subject"]): place for place, event in enumerate(history)}
    for event in of_type(history, "sales.order.placed.v1"):
        order = event["subject"]
        story = [
            places["crm.customer.registered.v1", event["data"]["customer_id"]],
            places["mesh.workflow.created.v1", event["workflowid"]],
            places["sales.order.placed.v1", order],
            places["logistics.shipment.booked.v1", order],
            places.get(("logistics.shipment.sent.v1", order), len(history)),
        ]
        assert story == sorted(story)


def test_every_run_tells_the_same_history_with_ids_of_its_own_for_each_event(
    history: list[dict[str, Any]],
) -> None:
    assert list(events()) == history
    assert len({event["id"] for event in history}) == len(history)


def test_every_event_is_valid(history: list[dict[str, Any]]) -> None:
    for event in history:
        kind = CLASSES[event["type"]]
        assert set(event["data"]) <= set(kind.model_fields)
        given = kind.model_validate(event["data"])
        assert event["subject"] == ",".join(str(getattr(given, name)) for name in kind.key_fields)


def test_every_event_arrives_on_the_other_side_of_the_wire_as_it_was(history: list[dict[str, Any]]) -> None:
    decoder = TopicDecoder(kind.contract for kind in CLASSES.values())
    for event in history:
        arrived = decoder.read(encode_structured(event))
        assert not isinstance(arrived, Refusal | Unknown), arrived
        assert (arrived.type, arrived.id, arrived.subject) == (event["type"], event["id"], event["subject"])
        expected = CLASSES[event["type"]].model_validate(event["data"])
        assert CLASSES[event["type"]].model_validate(msgspec.to_builtins(arrived.data)) == expected


def test_an_order_and_its_shipment_share_a_workflow(history: list[dict[str, Any]]) -> None:
    members: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for event in history:
        if workflow := event.get("workflowid"):
            members[workflow].add((event["type"].rsplit(".", 2)[0], event["subject"]))
    assert len(members) == 830
    assert members[str(workflow_of(10248))] == {("sales.order", "10248"), ("logistics.shipment", "10248")}
    registered = {
        UUID(event["data"]["workflow_id"]) for event in of_type(history, "mesh.workflow.created.v1")
    }
    assert registered == {UUID(workflow) for workflow in members}


def test_nothing_of_the_files_is_changed_on_the_way(history: list[dict[str, Any]]) -> None:
    path = ROOT / "projections" / "northwind" / "data" / "customers.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
    assert [event["data"] for event in of_type(history, "crm.customer.registered.v1")] == rows
    assert "Val2 " in {row["customer_id"] for row in rows}


def test_the_catalog_has_the_promised_views_and_columns() -> None:
    catalog = Catalog.load("projections.northwind")
    promised = {
        "order_overview": "order_id customer_name employee_name shipper_name line_count total products "
        "shipped_at",
        "customer_overview": "customer_id company_name order_count open_orders lifetime_total last_order_at",
        "product_sales": "product_id product_name category_name supplier_name units_sold revenue",
        "workflow_overview": "workflow_id entry_count order_id total shipped_at",
    }
    assert set(catalog.views) == set(promised)
    for name, columns in promised.items():
        assert set(columns.split()) <= {column.name for column in catalog.views[name].columns}
    assert catalog.topics == tuple(
        f"{service}.events" for service in ("crm", "hr", "inventory", "logistics", "mesh", "sales")
    )
    required = {
        field.name for field in catalog.contracts["crm.customer.registered.v1"].fields if field.required
    }
    assert required == {"customer_id", "company_name"}
