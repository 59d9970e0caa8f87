"""Northwind's past as events, in the order in which it happened."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from io import StringIO
from typing import Any
from uuid import UUID, uuid5

from mesh_core.model import Event
from mesh_core.model.builtin import WorkflowCreated
from mesh_core.model.identifiers import key_text
from projections.northwind.events import (
    CategoryAdded,
    CustomerRegistered,
    EmployeeHired,
    OrderPlaced,
    ProductAdded,
    ShipmentBooked,
    ShipmentSent,
    ShipperRegistered,
    SupplierRegistered,
)

Row = Mapping[str, Any]
"""A line of a CSV; empty cells are left out."""

NAMESPACE = UUID("6f0d9d0c-5a0b-5b8e-9a63-3d4c8f1f2c11")
"""Of the version-5 UUIDs (RFC 9562) by which events and workflows have the same ids in every run."""
FOUNDED = "2012-01-01"
"""When things without a date of their own were there: before anybody was hired."""


def events() -> Iterator[dict[str, Any]]:
    """Every event as a structured CloudEvent, in time order; the same in every run.

    Numbers that must stay exact are Decimals, times and UUIDs are text: encode with Decimals as numbers.
    """
    # Sorting is stable, so what happened at one time stays in the order of cause and effect.
    return iter(sorted([*_master_data(), *_orders()], key=lambda event: str(event["time"])))


def workflow_of(order_id: int) -> UUID:
    """The workflow that ties an order to its shipment."""
    return uuid5(NAMESPACE, f"workflow of order {order_id}")


def _master_data() -> Iterator[dict[str, Any]]:
    for row in _rows("categories", integers=("category_id",)):
        yield _event(CategoryAdded, row)
    for row in _rows("suppliers", integers=("supplier_id",)):
        yield _event(SupplierRegistered, row)
    stock = ("units_in_stock", "units_on_order", "reorder_level")
    numbers = ("product_id", "supplier_id", "category_id", *stock)
    for row in _rows("products", integers=numbers, decimals=("unit_price",)):
        yield _event(ProductAdded, {**row, "discontinued": row["discontinued"] == "1"})
    for row in _rows("shippers", integers=("shipper_id",)):
        yield _event(ShipperRegistered, row)
    for row in _rows("customers"):
        yield _event(CustomerRegistered, row)
    for row in _rows("employees", integers=("employee_id", "reports_to")):
        name = f"{row['first_name']} {row['last_name']}"
        hired = {**row, "name": name, "hired_on": row["hire_date"]}
        yield _event(EmployeeHired, hired, on=row["hire_date"])


def _orders() -> Iterator[dict[str, Any]]:
    items: dict[int, list[Row]] = defaultdict(list)
    numbers = ("order_id", "product_id", "quantity")
    for row in _rows("order_details", integers=numbers, decimals=("unit_price", "discount")):
        items[row["order_id"]].append({name: value for name, value in row.items() if name != "order_id"})
    numbers = ("order_id", "employee_id", "ship_via")
    for row in _rows("orders", integers=numbers, decimals=("freight",)):
        order_id, placed = row["order_id"], row["order_date"]
        workflow = str(workflow_of(order_id))
        created = {"workflow_id": workflow, "name": f"Order {order_id}", "attributes": {"order_id": order_id}}
        order = {
            **row,
            "placed_at": _midnight(placed),
            "required_on": row["required_date"],
            "items": items[order_id],
        }
        shipment = {**row, "shipper_id": row["ship_via"]}
        yield _event(WorkflowCreated, created, on=placed, source="/northwind/sales")
        yield _event(OrderPlaced, order, on=placed, workflow=workflow)
        yield _event(ShipmentBooked, shipment, on=placed, workflow=workflow)
        if shipped := row.get("shipped_date"):
            sent = {"order_id": order_id, "at": _midnight(shipped)}
            yield _event(ShipmentSent, sent, on=shipped, workflow=workflow)


def _event(
    kind: type[Event],
    values: Row,
    *,
    on: str = FOUNDED,
    workflow: str | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """The CloudEvent of one fact; of `values`, those that its contract has."""
    subject = key_text([values[name] for name in kind.key_fields])
    envelope = {
        "specversion": "1.0",
        "id": str(uuid5(NAMESPACE, f"{kind.type} {subject}")),
        "source": source or f"/northwind/{kind.service}",
        "type": kind.type,
        "subject": subject,
        "time": _midnight(on),
        "datacontenttype": "application/json",
    }
    if workflow is not None:
        envelope["workflowid"] = workflow
    return {**envelope, "data": {name: values[name] for name in kind.model_fields if name in values}}


def _midnight(day: str) -> str:
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _rows(name: str, *, integers: tuple[str, ...] = (), decimals: tuple[str, ...] = ()) -> Iterator[Row]:
    kinds: dict[str, Any] = dict.fromkeys(integers, int) | dict.fromkeys(decimals, Decimal)
    text = (files("projections.northwind") / "data" / f"{name}.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(StringIO(text, newline="")):
        yield {column: kinds.get(column, str)(value) for column, value in row.items() if value}
