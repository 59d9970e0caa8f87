# ruff: noqa: B018
"""What mypy --strict must refuse: one error at every line that says `refused:`, and none anywhere else.

Never imported: most of it is refused at run time as well.
"""

from __future__ import annotations

from mesh_core.model import (
    Col,
    CustomView,
    Entity,
    Key,
    View,
    add,
    by_workflow,
    delete,
    many,
    one,
    patch,
    upsert,
)
from mesh_core.model.expressions import Expr
from tests.typing.right_declarations import (
    Customer,
    CustomerSaved,
    Line,
    Order,
    OrderPlaced,
    customer,
    lines,
    orders,
)

# Edges
one(Order.order_id, Customer.customer_id)  # refused: an int cannot be a key of text
one(Order.placed_at, Customer.customer_id)  # refused: a time cannot be a key of text
one(Order.customer_id, Customer.name)  # refused: the target is not a key
one(Customer.customer_id, Order.customer_id)  # refused: the wrong side, a non-key
one(Order.customer_id, Customer)  # refused: an entity is not a key
one("customer_id", Customer.customer_id)  # refused: a name is not a column
one((Order.order_id, Order.customer_id), (Line.order_id, Line.product_id))  # refused: text and int
one((Order.order_id, Customer.customer_id), (Line.order_id, Line.product_id))  # refused: of two entities
many(Line.order_id, Order.customer_id)  # refused: the parent is not a key
many(Line.order_id, Customer.customer_id)  # refused: an int cannot meet a key of text
many(Order.order_id, Line.quantity)  # refused: the wrong side, a non-key
by_workflow(Order, Line.order_id)  # refused: a column is not an entity
by_workflow(Order, OrderPlaced)  # refused: an event is not an entity

# What edges reach
customer[Order.note]  # refused: the column of the wrong entity
customer[Line.quantity]  # refused: the column of an entity that the edge does not reach
customer[lines]  # refused: an edge that starts elsewhere
orders[customer[Customer.name]]  # refused: one value of many rows
lines[Line.quantity]  # refused: one value of many rows
orders[orders]  # refused: the edge starts at the customer, not at the order

# Roll-ups
lines.sum(Order.order_id)  # refused: a value of the parent
lines.sum(Line.unit_price + Order.order_id)  # refused: a value of two entities
orders.sum(Order.note)  # refused: a sum of text
lines.count(where=Order.order_id == 5)  # refused: a condition on the parent
lines.count(where=Line.quantity)  # refused: a number is not a condition
lines.latest(Line.quantity, by=Order.placed_at)  # refused: ordered by another entity
lines.latest(Line.quantity)  # refused: latest of what
lines.list(Line.quantity, limit="5")  # refused: a text is not a limit
lines.count(Line.quantity)  # refused: count takes no value

# Expressions
Line.quantity * Order.order_id  # refused: two entities
Line.quantity * "2"  # refused: text is not a number
Order.note + 1  # refused: text is not a number
Order.note & Order.note  # refused: text is not a condition
(Order.note == "x") & (Line.quantity == 5)  # refused: conditions on two entities
Order.quantity  # refused: no such column

# Views
View("wrong", Order, order_id=Order.order_id, name=Customer.name)  # refused: not reached over an edge
View("wrong", Order, order_id=Order.order_id, lines=lines)  # refused: many rows are no value
View("wrong", Order, order_id=Order.order_id, customer=customer)  # refused: a row is no value
View("wrong", Order, order_id=Order.order_id, n=orders.count())  # refused: a roll-up of another root
View("wrong", Order, order_id=5)  # refused: a number is no column
View(Order, "wrong", order_id=Order.order_id)  # refused: name first
View("wrong", OrderPlaced, order_id=OrderPlaced.order_id)  # refused: an event is not an entity
CustomView("wrong", Order, number=1, sql="", columns={}, edges=[orders])  # refused: an edge of another root

# Folds
upsert(Order)  # refused: an entity is not an event
upsert(OrderPlaced, each=OrderPlaced.order_id)  # refused: a number is not a list
patch("typing.order.placed.v1")  # refused: a name is not an event
delete(Customer)  # refused: an entity is not an event
add(OrderPlaced.note)  # refused: text cannot be added
add(CustomerSaved.points, window="5")  # refused: a text is not a number of offsets
OrderPlaced.quantity  # refused: no such field


class Wrong(Entity, service=5):  # refused: a service is a name
    wrong_id: Key[int]
    folds = OrderPlaced  # refused: an event is not a fold


class Columns(Entity, service="typing"):
    columns_id: Key[int]
    size: Col[int] = "5"  # refused: a text as a number's default
    folds = upsert(OrderPlaced)


def wants_text_of_order(_: Expr[Order, str]) -> None: ...


wants_text_of_order(Order.order_id)  # refused: an int
wants_text_of_order(Order.note)  # refused: may be null
wants_text_of_order(customer[Customer.name])  # refused: the customer may be missing
wants_text_of_order(Customer.name)  # refused: of another entity
