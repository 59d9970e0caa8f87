"""Declarations as teams write them: mypy --strict takes them all, and knows the types of what they make."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import assert_type
from uuid import UUID

from mesh_core.model import (
    Catalog,
    Col,
    CustomView,
    Entity,
    Event,
    Key,
    Many,
    One,
    Part,
    View,
    add,
    by_workflow,
    column,
    delete,
    event_time,
    many,
    max_,
    min_,
    one,
    patch,
    upsert,
)
from mesh_core.model.builtin import Workflow
from mesh_core.model.expressions import ColumnRef, Condition, Expr, KeyRef


class Item(Part):
    product_id: int
    unit_price: Decimal
    quantity: int


class OrderPlaced(Event, type="typing.order.placed.v1"):
    order_id: int
    customer_id: str
    placed_at: datetime
    note: str | None = None
    items: list[Item]


class OrderNoted(Event, type="typing.order.noted.v1"):
    order: int
    text: str


class OrderCancelled(Event, type="typing.order.cancelled.v1"):
    order_id: int


class CustomerSaved(Event, type="typing.customer.saved.v1"):
    customer_id: str
    name: str
    country: UUID
    points: int


class Order(Entity, service="typing"):
    order_id: Key[int]
    customer_id: Col[str]
    placed_at: Col[datetime]
    note: Col[str | None]
    folds = (
        upsert(OrderPlaced),
        patch(OrderNoted, order_id=OrderNoted.order, note=OrderNoted.text),
        delete(OrderCancelled),
    )


class Line(Entity, service="typing"):
    order_id: Key[int]
    product_id: Key[int]
    unit_price: Col[Decimal] = column(precision=10, scale=2)
    quantity: Col[int]
    folds = upsert(OrderPlaced, each=OrderPlaced.items), delete(OrderCancelled)


class Customer(Entity, service="typing"):
    customer_id: Key[str]
    name: Col[str]
    country: Col[UUID]
    points: Col[int]
    best: Col[int]
    saved_at: Col[datetime]
    folds = upsert(
        CustomerSaved,
        points=add(CustomerSaved.points),
        best=max_(CustomerSaved.points),
        saved_at=min_(event_time),
    )


assert_type(Order.order_id, KeyRef[Order, int])
assert_type(Order.note, ColumnRef[Order, str | None])

customer = one(Order.customer_id, Customer.customer_id)
lines = many(Line.order_id, Order.order_id)
orders = many(Order.customer_id, Customer.customer_id)
order = one(Line.order_id, Order.order_id)

assert_type(customer, One[Order, Customer])
assert_type(lines, Many[Order, Line])
assert_type(orders[lines], Many[Customer, Line])
assert_type(order[customer], One[Line, Customer])
assert_type(customer[Customer.name], Expr[Order, str | None])
assert_type(customer[orders], Many[Order, Order])
assert_type(lines.count(), Expr[Order, int])
assert_type(lines.sum(Line.unit_price * Line.quantity), Expr[Order, Decimal])
assert_type(orders.latest(Order.note, by=Order.placed_at), Expr[Customer, str | None])
assert_type(orders.max(Order.placed_at), Expr[Customer, datetime | None])
assert_type(Order.note.is_null() & (Order.order_id > 5), Condition[Order])
assert_type(customer[orders.count()], Expr[Order, int | None])
assert_type(by_workflow(Workflow, Order), Many[Workflow, Order])

order_overview = View(
    "typing_orders",
    Order,
    order_id=Order.order_id,
    customer_name=customer[Customer.name],
    noted=Order.note.or_else(""),
    total=lines.sum(Line.unit_price * Line.quantity * (1 - Line.unit_price)),
    dear=lines.count(where=(Line.unit_price > 5) | ~(order[Order.note] == "x")),
    products=lines.list(Line.product_id, by=Line.quantity, limit=9),
)
assert_type(order_overview, View[Order])

custom = CustomView(
    "typing_custom",
    Customer,
    number=1,
    sql="SELECT customer_id, count(*) AS n FROM {typing_customer} JOIN {typing_order} USING (customer_id)"
    " GROUP BY 1",
    columns={"customer_id": str, "n": int},
    edges=[orders],
)

catalog = Catalog.of(entities=[Order, Line, Customer], views=[order_overview, custom])


def event_fields_keep_their_python_types(event: OrderPlaced) -> tuple[int, datetime, list[Item], str | None]:
    return event.order_id, event.placed_at, event.items, event.note
