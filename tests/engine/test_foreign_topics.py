"""Topics that others fill as they do: a legacy JSON topic, Debezium's outbox router, and a database's row changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from mesh_core.engine.swapping import rollback
from mesh_core.log import Delivered
from mesh_core.model import (
    Catalog,
    Col,
    Entity,
    Event,
    Key,
    View,
    delete,
    json_topic,
    many,
    one,
    outbox_topic,
    patch,
    row_changes,
    upsert,
)
from mesh_core.settings import Settings
from tests.support.mesh import Mesh, Outcomes

WORKFLOW = UUID("0198a000-0000-7000-8000-000000000001")
orders = json_topic(
    "legacy.orders",
    type="kind",
    types={"created": "legacy.order.placed.v1", "closed": "legacy.order.closed.v1"},
    key="order.no",
    data="order",
    time="at",
    workflow="flow",
)
customers = row_changes(
    "crmdb.public.customers", saved="erp.customer.saved.v1", deleted="erp.customer.deleted.v1", key="id"
)
payments = outbox_topic("outbox.event.payment", type="header:eventType")


class OrderPlaced(Event, type="legacy.order.placed.v1", topic=orders):
    no: int
    customer: int


class OrderClosed(Event, type="legacy.order.closed.v1", topic=orders):
    no: int


class CustomerSaved(Event, type="erp.customer.saved.v1", topic=customers):
    id: int
    name: str


class CustomerDeleted(Event, type="erp.customer.deleted.v1", topic=customers):
    id: int


class PaymentMade(Event, type="pay.payment.made.v1", topic=payments):
    payment: str
    order_no: int
    amount: Decimal


class Order(Entity, service="legacy"):
    no: Key[int]
    customer: Col[int]
    open: Col[bool]
    folds = upsert(OrderPlaced, open=True), patch(OrderClosed, open=False)


class Customer(Entity, service="erp"):
    id: Key[int]
    name: Col[str]
    folds = upsert(CustomerSaved), delete(CustomerDeleted)


class Payment(Entity, service="pay"):
    payment: Key[str]
    order_no: Col[int]
    amount: Col[Decimal]
    folds = upsert(PaymentMade)


customer = one(Order.customer, Customer.id)
paid = many(Payment.order_no, Order.no)
CATALOG = Catalog.of(
    entities=[Order, Customer, Payment],
    views=[
        View(
            "order_state",
            Order,
            no=Order.no,
            customer=customer[Customer.name],
            open=Order.open,
            paid=paid.sum(Payment.amount),
        )
    ],
)


@pytest.fixture
def mesh(settings: Settings) -> Iterator[Mesh]:
    made = Mesh(settings, CATALOG)
    made.deploy()
    yield made
    made.close()


def order(mesh: Mesh, number: int, kind: str = "created", **more: Any) -> None:
    body = {"kind": kind, "at": "2026-01-05T09:00:00Z", "order": {"no": number, "customer": 1}} | more
    mesh.send("legacy.orders", b"%d" % number, json.dumps(body).encode())


def row(mesh: Mesh, op: str, number: int, name: str | None) -> None:
    one = {"id": number, "name": name}
    gone = op == "d"
    change = {
        "op": op,
        "before": one if gone else None,
        "after": None if gone else one,
        "ts_ms": 1_767_603_600_000,
    }
    wrapped = {"schema": {"type": "struct"}, "payload": change}
    mesh.send("crmdb.public.customers", json.dumps({"id": number}).encode(), json.dumps(wrapped).encode())
    if gone:
        mesh.send("crmdb.public.customers", json.dumps({"id": number}).encode(), None)


def payment(mesh: Mesh, number: str, order_no: int, amount: str) -> None:
    body = f'{{"payment": "{number}", "order_no": {order_no}, "amount": {amount}}}'.encode()
    headers = (("id", b"u-" + number.encode()), ("eventType", b"pay.payment.made.v1"))
    mesh.send("outbox.event.payment", json.dumps(number).encode(), body, headers=headers)


def fill(mesh: Mesh) -> None:
    row(mesh, "r", 1, "Ann")
    row(mesh, "c", 2, "Bob")
    order(mesh, 1, flow=str(WORKFLOW))
    order(mesh, 2)
    order(mesh, 2, "closed")
    payment(mesh, "p1", 1, "10.10")
    payment(mesh, "p2", 1, "0.90")
    row(mesh, "u", 1, "Anna")
    row(mesh, "d", 2, None)


ROWS = {
    1: {"no": 1, "customer": "Anna", "open": True, "paid": Decimal("11")},
    2: {"no": 2, "customer": "Anna", "open": False, "paid": 0},
}


def test_what_others_publish_is_joined(mesh: Mesh) -> None:
    fill(mesh)
    mesh.project()
    assert mesh.rows("order_state") == ROWS
    assert set(mesh.rows("erp_customer")) == {1}
    assert mesh.outcomes("crmdb.public.customers") == Outcomes(consumed=5, applied=4, ignored=1), (
        "a tombstone"
    )
    found = mesh.query("SELECT service, entity, key FROM read.mesh_workflow_entry")
    assert found == [("legacy", "order", "1")], "the workflow is looked up as any other"
    mesh.assert_sound()
    mesh.deploy(rebuild=("erp.customer", "legacy.order", "pay.payment"))
    assert mesh.rows("order_state") == ROWS
    fill(mesh)
    mesh.project()
    assert mesh.rows("order_state") == ROWS, "the same again, rows over rows"
    mesh.assert_sound()


def test_what_cannot_be_read_is_kept_whole_and_can_be_edited(mesh: Mesh) -> None:
    fill(mesh)
    raw = b'{"kind": "created", "at": "2026-01-05T09:00:00Z", "order": {"customer": 1}}'
    bad = mesh.send("legacy.orders", b"3", raw)
    order(mesh, 3, "closed")
    order(mesh, 4, "cancelled")
    mesh.send("crmdb.public.customers", b'{"id": 9}', b'{"op": "t"}')
    mesh.project()
    dead = {letter["reason"]: letter for letter in mesh.held("dead")}
    assert set(dead) == {"missing_field", "wrong_value"}
    assert dead["missing_field"]["value"] == raw
    assert "order.no, where legacy.orders has the key" in dead["missing_field"]["detail"]
    assert [held["record_key"] for held in mesh.held("parked")] == ["3"], "what follows of the key waits"
    assert mesh.outcomes("legacy.orders") == Outcomes(
        consumed=6, applied=3, ignored=1, dead_lettered=1, parked=1
    )

    whole = {
        "specversion": "1.0", "id": "edited", "source": "/t", "type": "legacy.order.placed.v1", "subject": "3",
        "time": "2026-01-05T09:00:00Z", "data": {"no": 3, "customer": 1},
    }  # fmt: skip
    mesh.decide(bad, "edit", json.dumps(whole).encode())
    mesh.project()
    assert mesh.rows("order_state")[3] == {"no": 3, "customer": "Anna", "open": False, "paid": 0}
    mesh.assert_sound()
    before = mesh.rows("order_state")
    mesh.deploy(rebuild=("legacy.order",))
    assert mesh.rows("order_state") == before


def test_an_event_is_held_under_its_own_key_whatever_its_record_has(mesh: Mesh) -> None:
    def told(kind: str, number: int, **more: Any) -> Delivered:
        body = {"kind": kind, "at": "2026-01-05T09:00:00Z", "order": {"no": number, "customer": 1}} | more
        return mesh.send("legacy.orders", b"customer-1", json.dumps(body).encode())

    bad = told("created", 3, at=None)
    told("closed", 3)
    told("created", 4)
    mesh.project()
    assert [(held["status"], held["record_key"]) for held in mesh.held()] == [("dead", "3"), ("parked", "3")]
    whole = {
        "specversion": "1.0", "id": "edited", "source": "/t", "type": "legacy.order.placed.v1", "subject": "3",
        "time": "2026-01-05T09:00:00Z", "data": {"no": 3, "customer": 1},
    }  # fmt: skip
    mesh.decide(bad, "edit", json.dumps(whole).encode())
    mesh.project()
    assert {key: row["open"] for key, row in mesh.rows("order_state").items()} == {3: False, 4: True}
    mesh.deploy(rebuild=("legacy.order",))
    assert {key: row["open"] for key, row in mesh.rows("order_state").items()} == {3: False, 4: True}
    mesh.assert_sound()


def test_versions_that_read_another_key_are_kept_up_side_by_side(mesh: Mesh) -> None:
    """The one that serves by a place in the value, a new one by the record key."""
    by_record = json_topic(
        "legacy.orders", type="kind", types={"created": "legacy.order.placed.v1"}, data="order", time="at"
    )

    class Placed(Event, type="legacy.order.placed.v1", topic=by_record):
        no: int
        ref: str

    class ByRef(Entity, service="legacy", name="order"):
        ref: Key[str]
        no: Col[int]
        folds = upsert(Placed)

    ours: Any = ByRef

    def told(number: int) -> None:
        body = {"kind": "created", "at": "2026-01-05T09:00:00Z"}
        data = {"no": number, "customer": 1, "ref": f"R-{number}"}
        mesh.send("legacy.orders", f"R-{number}".encode(), json.dumps(body | {"order": data}).encode())

    told(1)
    mesh.project()
    view = View("order_state", ours, ref=ours.ref, no=ours.no)
    mesh.deploy(Catalog.of(entities=[ByRef, Customer, Payment], views=[view]))
    told(2)
    mesh.project()
    assert set(mesh.rows("order_state")) == {"R-1", "R-2"}
    assert mesh.held() == []
    rollback(mesh.database_url)
    mesh.catalog = CATALOG
    told(3)
    mesh.project()
    assert set(mesh.rows("order_state")) == {1, 2, 3}, "the one before was kept up by its own key"
    assert mesh.held() == []
    mesh.assert_sound()


def test_a_changed_mapping_is_a_deploy(mesh: Mesh) -> None:
    """Records of both mappings are read by the new one; until the swap, projectors keep up both."""
    fill(mesh)
    mesh.project()
    renamed = json_topic(
        "legacy.orders",
        type="kind",
        types={
            "created": "legacy.order.placed.v1",
            "closed": "legacy.order.closed.v1",
            "ended": "legacy.order.closed.v1",
        },
        key="order.no",
        data="order",
        time="at",
    )

    class Placed(Event, type="legacy.order.placed.v1", topic=renamed):
        no: int
        customer: int

    class Closed(Event, type="legacy.order.closed.v1", topic=renamed):
        no: int

    class NewOrder(Entity, service="legacy", name="order"):
        no: Key[int]
        customer: Col[int]
        open: Col[bool]
        folds = upsert(Placed, open=True), patch(Closed, open=False)

    ours: Any = NewOrder
    views = [View("order_state", ours, no=ours.no, open=ours.open)]
    order(mesh, 1, "ended")
    mesh.deploy(Catalog.of(entities=[NewOrder, Customer, Payment], views=views))
    mesh.project()
    assert {key: state["open"] for key, state in mesh.rows("order_state").items()} == {1: False, 2: False}
    order(mesh, 5)
    order(mesh, 5, "ended")
    mesh.project()
    assert mesh.rows("order_state")[5]["open"] is False
    mesh.assert_sound()
