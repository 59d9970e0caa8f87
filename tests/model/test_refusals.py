"""What cannot work is refused when it is declared, naming class and field and saying what to do."""

# mypy: ignore-errors
# Wrong on purpose: what mypy makes of it is tested in tests/typing.

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge

from mesh_core.model import (
    Catalog,
    Col,
    CustomView,
    DeclarationError,
    Entity,
    Event,
    Key,
    View,
    add,
    by_workflow,
    column,
    delete,
    many,
    max_,
    min_,
    one,
    patch,
    upsert,
    workflow_id,
)
from mesh_core.model.expressions import literal
from tests.model.declarations import (
    Cancelled,
    Customer,
    Line,
    Noted,
    Order,
    Placed,
    customer,
    lines,
    order,
    orders,
)

Namespace = dict[str, Any]


def entity(
    folds: Any, service: str = "model", /, options: Namespace | None = None, **columns: Any
) -> type[Entity]:
    """Declare `class Thing(Entity, service=…)`; a column is its annotation, or (annotation, options)."""
    namespace: Namespace = {"__module__": __name__, "__annotations__": {}, "folds": folds}
    for name, annotation in columns.items():
        namespace["__annotations__"][name] = annotation
        if isinstance(annotation, tuple):
            namespace["__annotations__"][name], namespace[name] = annotation
    return type(Entity)("Thing", (Entity,), namespace, service=service, **(options or {}))


def event(kind: str = "model.thing.said.v1", /, **fields: Any) -> type[Event]:
    namespace: Namespace = {"__module__": __name__, "__annotations__": fields}
    return type(Event)("Said", (Event,), namespace, type=kind)


class Plain(Event):
    thing_id: int


ID = {"order_id": Key[int]}

ENTITIES: list[tuple[Callable[[], Any], str]] = [
    (lambda: entity(upsert(Placed), "", **ID), "Thing: no service. class Thing(Entity, service="),
    (lambda: entity(upsert(Placed), "Model", **ID), "Thing: 'Model' is not a lower-case name"),
    (lambda: entity(upsert(Placed), options={"name": "x" * 50}, **ID), "longer than 40 bytes"),
    (lambda: entity(upsert(Placed), options={"name": "a__b"}, **ID), "double or trailing underscore"),
    (lambda: entity((), **ID), "Thing: no folds, so nothing would ever fill it. folds = upsert(SomeEvent)"),
    (lambda: entity(upsert(Placed), note=Col[str | None]), "Thing: no key. Annotate a column with Key[…]."),
    (
        lambda: entity(upsert(Placed), note=Col[str | None], order_id=Key[int]),
        "Thing: the key's columns must come first",
    ),
    (
        lambda: entity(upsert(Placed), order_id=int),
        "Thing.order_id: <class 'int'> is not a column. Write Key[…] or Col[…].",
    ),
    (
        lambda: entity(upsert(Placed), order_id=Key[Decimal]),
        "Thing.order_id: a key is an int, str, UUID or date",
    ),
    (
        lambda: entity(upsert(Placed), order_id=Key[int | None]),
        "Thing.order_id: a key is an int, str, UUID or date",
    ),
    (
        lambda: entity(upsert(Placed), **ID, Note=Col[str | None]),
        "Thing.Note: 'Note' is not a lower-case name",
    ),
    (lambda: entity(upsert(Placed), **ID, note=Col[complex]), "Thing.note: <class 'complex'> has no place"),
    (lambda: entity(upsert(Placed), **ID, note=Col[int | str]), "Thing.note: int | str is a choice of types"),
    (
        lambda: entity(upsert(Placed), order_id=Key["Missing"]),
        "Thing: name 'Missing' is not defined. Import the type",
    ),
    (
        lambda: entity(upsert(Placed), **ID, note=(Col[str | None], column(precision=4))),
        "Thing.note: precision is for Decimal columns",
    ),
    (lambda: entity(upsert(Plain), thing_id=Key[int]), "Thing: Plain has no type. Declare it with type="),
    (
        lambda: entity(upsert(event("other.thing.said.v1", order_id=int)), **ID),
        "Thing: its events are of other.events, but an entity of model is fed by model.events only. Make one entity",
    ),
    (
        lambda: entity((upsert(Placed), upsert(event("other.thing.said.v1", order_id=int))), **ID),
        "Thing: its events are of model.events, other.events",
    ),
    (lambda: entity((upsert(Placed), patch(Placed)), **ID), "Thing: model.order.placed.v1 is folded twice"),
    (
        lambda: entity(patch(Noted, order_id=Noted.order, note=Noted.text), **ID, note=Col[str | None]),
        "Thing: no upsert",
    ),
    (
        lambda: entity(upsert(Noted), **ID),
        "Thing: upsert(Noted), column order_id: the event has no field of that name. Say where",
    ),
    (
        lambda: entity(upsert(Noted, order_id=Placed.order_id), **ID),
        "column order_id: Placed is another event",
    ),
    (
        lambda: entity(upsert(Noted, order_id=Noted.text), **ID),
        "column order_id: the column is int but the event's value is text",
    ),
    (
        lambda: entity(upsert(Placed, colour="red"), **ID),
        "Thing: upsert(Placed): 'colour' is not a column of Thing",
    ),
    (
        lambda: entity(upsert(Placed), **ID, colour=Col[str | None]),
        "Thing.colour: no event sets this column. Name it in a fold",
    ),
    (
        lambda: entity(upsert(Placed), **ID, note=Col[str]),
        "column note: the event's value can be missing, but the column is required",
    ),
    (
        lambda: entity(upsert(Placed), **ID, customer_id=Col[int]),
        "column customer_id: the column is int but the event's value is text",
    ),
    (
        lambda: entity((upsert(Cancelled), patch(Placed)), **ID, customer_id=Col[str]),
        "Thing.customer_id: model.order.cancelled.v1 can create a row without this required column. Make the column … | None",
    ),
    (
        lambda: entity(upsert(Placed, order_id=Placed.note), order_id=Key[str]),
        "column order_id: the event's value can be missing",
    ),
    (
        lambda: entity(upsert(Placed, order_id=workflow_id), order_id=Key[__import__("uuid").UUID]),
        "the event's value can be missing",
    ),
    (
        lambda: entity(upsert(Placed, customer_id=object()), **ID, customer_id=Col[str]),
        "is neither a field of the event nor a plain value",
    ),
    (
        lambda: entity(upsert(Placed, n=add(Placed.weight)), **ID, n=Col[float]),
        "column n: add takes whole numbers or Decimals",
    ),
    (
        lambda: entity(upsert(Placed, n=add(Placed.note)), **ID, n=Col[int]),
        "column n: the column is int but the event's value is text",
    ),
    (
        lambda: entity(upsert(Placed, note=max_(Placed.note)), **ID, note=Col[str | None]),
        "column note: the event's value can be missing",
    ),
    (
        lambda: entity(upsert(Placed, e=max_(Placed.extra)), **ID, e=Col[dict[str, Any] | None]),
        "column e: max does not work on json",
    ),
    (
        lambda: entity(upsert(Placed, at="2020-01-01T00:00:00"), **ID, at=Col[datetime]),
        "column at: '2020-01-01T00:00:00' does not say its zone, such as +00:00",
    ),
    (
        lambda: entity(upsert(Placed), **ID, at=(Col[datetime], column(default=datetime(2020, 1, 1)))),
        "Thing.at: '2020-01-01T00:00:00' does not say its zone, such as +00:00",
    ),
    (
        lambda: entity(upsert(Placed, n="seven"), **ID, n=Col[Decimal]),
        "column n: 'seven' is not a number",
    ),
    (
        lambda: entity(upsert(Placed, n=max_(Placed.order_id)), **ID, n=(Col[int], column(default=5))),
        "Thing.n: max starts from nothing, so it takes no default",
    ),
    (
        lambda: entity(
            (
                upsert(Placed, n=max_(Placed.order_id)),
                upsert(Noted, order_id=Noted.order, n=min_(Noted.order)),
            ),
            **ID,
            n=Col[int],
        ),
        "Thing.n: max and min cannot be mixed in one column",
    ),
    (lambda: entity(upsert(Placed, each=Placed.note), **ID), "each=note is not a list of models in Placed"),
    (lambda: entity(upsert(Noted, each=Placed.items), **ID), "each=items is not a list of models in Noted"),
    (lambda: entity(upsert(Placed, each=["x"]), **ID), "each=['x'] is not a list field of the event"),
    (
        lambda: entity(upsert(Placed, each=Placed.items), **ID),
        "Thing: all elements of one event would have the same key. Add a Key",
    ),
    (
        lambda: entity(upsert(Placed, each=Placed.items), product_id=Key[int], **ID),
        "the key of each must start with the record key",
    ),
    (
        lambda: entity((upsert(Placed, each=Placed.items), delete(Noted)), **ID, product_id=Key[int]),
        "Thing: delete(model.order.noted.v1) does not name the whole record key. Name the key's fields",
    ),
    (
        lambda: entity((upsert(Placed), patch(Cancelled)), **ID),
        "Thing: patch(Cancelled): it changes no column",
    ),
]

EVENTS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: event("order.placed"),
        "Said: the type 'order.placed' does not read <service>.<entity>.<past-tense verb>.v<major>. For example",
    ),
    (lambda: event("Sales.order.placed.v1"), "does not read"),
    (
        lambda: event(thing_id=complex),
        "Said.thing_id: <class 'complex'> has no place in an event or a table. Use int, str",
    ),
    (lambda: event(thing_id=int | str), "Said.thing_id: int | str is a choice of types"),
    (
        lambda: event(thing_id=Literal[1, "a"]),
        "is a choice of other things than texts, or than whole numbers",
    ),
    (lambda: event(thing_id=Literal[True]), "is a choice of other things than texts"),
    (lambda: event(thing_id=tuple[int, str]), "Said.thing_id: tuple[int, str] has no place"),
    (lambda: event(thing_id=set[int]), "Said.thing_id: set[int] has no place"),
    (
        lambda: event(thing_id=Annotated[date, Ge(date(2026, 1, 1))]),
        "ge=datetime.date(2026, 1, 1) is not a limit that a contract can state",
    ),
]

VIEWS: list[tuple[Callable[[], Any], str]] = [
    (lambda: View("Wrong", Order, order_id=Order.order_id), "View 'Wrong' is not a lower-case name"),
    (
        lambda: View("v", Order),
        "v: the root's key column order_id is missing. Add order_id=… with the root's own column.",
    ),
    (lambda: View("v", Order, order_id=order[Order.order_id]), "v.order_id starts from model.line"),
    (
        lambda: View("v", Order, order_id=Order.order_id, name=Customer.name),
        "v.name starts from model.customer, but the view's root is model.order. Reach it over an edge",
    ),
    (lambda: View("v", Order, order_id=Order.order_id, x=lines), "v.x: "),
    (lambda: View("v", Order, order_id=Order.order_id, indexes=["x"]), "v: there is no column x"),
    (
        lambda: View("v", Order, order_id=Order.order_id, docs={"x": "?"}),
        "v: there is no column x, which docs",
    ),
    (lambda: View("v", Order, order_id=Order.order_id, doc="a\0b"), "v: what is said of it is text"),
    (lambda: View("v", Order, order_id=Order.order_id, cache=0), "v: the cache level 0 is neither 1 to"),
    (lambda: View("v", Order, order_id=Order.order_id, cache=True), "v: the cache level True is neither"),
    (
        lambda: View("v", Order, order_id=Order.order_id, x=Order.placed_at > "soon"),
        "v.x: model.order.placed_at is timestamptz: Invalid isoformat string: 'soon'",
    ),
    (lambda: View("v", Order, order_id=Order.order_id, indexes=[()]), "is empty or names something twice"),
    (
        lambda: View("v", Order, order_id=Order.order_id, indexes=["order_id", ("order_id",)]),
        "names something twice",
    ),
    (
        lambda: View(
            "v", Customer, customer_id=Customer.customer_id, x=orders.list(Order.order_id), indexes=["x"]
        ),
        "x is JSON, which has no order",
    ),
    (lambda: View("v", Order, order_id=Order.order_id, x=lines), "Many rows must be rolled up"),
    (lambda: View("v", Order, order_id=Order.order_id, x=customer), "Reach one of its columns"),
    (
        lambda: View("v", Order, order_id=Order.order_id, x=customer[orders][customer][Customer.name]),
        "is not one value",
    ),
    (
        lambda: View("v", Customer, customer_id=Customer.customer_id, x=orders[customer][orders].count()),
        "v: a cycle, model.order → model.customer → model.order. Follow each edge once.",
    ),
    (
        lambda: CustomView(
            "v", Customer, number=1, sql="SELECT", columns={"customer_id": str}, edges=[orders]
        ),
        "v: its edges reach model.customer, but the SQL does not read it",
    ),
    (
        lambda: CustomView(
            "v", Customer, number=1, sql="{model_customer} {model_order}", columns={"customer_id": str}
        ),
        "v: the SQL reads {model_order}, which no edge reaches, so its changes would go unseen. Name an edge to it",
    ),
    (
        lambda: CustomView("v", Customer, number=1, sql="{model_customer}", columns={"n": int}),
        "v: the root's key column customer_id is missing",
    ),
]

EDGES: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: one(Order.order_id, Customer.customer_id),
        "one: model.order.order_id is int but model.customer.customer_id is text",
    ),
    (
        lambda: one(Order.order_id, Line.order_id),
        "order_id is not the whole key of model.line, which is (order_id, product_id)",
    ),
    (lambda: one(Order.customer_id, Customer.name), "is not the whole key of model.customer"),
    (lambda: one("customer_id", Customer.customer_id), "one: 'customer_id' is not a column. For example"),
    (
        lambda: one((Order.order_id, Customer.country_id), (Line.order_id, Line.product_id)),
        "are of different entities",
    ),
    (lambda: one((Order.order_id,), (Line.order_id, Line.product_id)), "one: 1 columns cannot meet 2"),
    (lambda: many(Line.order_id, Order.customer_id), "is not the whole key of model.order"),
    (
        lambda: many(order[Order.order_id], Order.order_id),
        "the child's column is reached over an edge. Compose edges",
    ),
    (lambda: customer[Order.note], "An edge ends at model.customer, but model.order was asked of it"),
    (lambda: customer[lines], "An edge ends at model.customer, but model.order was asked of it"),
    (lambda: customer[5], "An edge to model.customer reaches a column, a roll-up or an edge of it, not 5"),
    (lambda: lines[Line.price], "of many model.line rows is not one value. Roll it up"),
    (lambda: by_workflow(Order, Line), "by_workflow: rows of model.line are made by each"),
    (lambda: lines.list(Line.price, limit=0), "A list of 0 values is not between 1 and 1000"),
    (lambda: lines.list(Line.price, limit=1001), "not between 1 and 1000"),
]

EXPRESSIONS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: Line.price * Order.order_id,
        "An expression mixes model.line and model.order. Reach the other entity",
    ),
    (lambda: Order.note + 1, "model.order.note is text; arithmetic takes"),
    (lambda: Order.weight * 2, "model.order.weight is float; arithmetic takes"),
    (lambda: Order.note == 5, "model.order.note is text"),
    (lambda: Order.note.or_else(5), "model.order.note is text, and the value instead is int"),
    (lambda: bool(Order.note == "x"), "A condition has no truth value in Python. Combine with & | ~"),
    (lambda: literal(5.5), "5.5 cannot stand in an expression"),
    (lambda: lines.sum(Order.order_id), "sum over model.line is given a value of model.order"),
    (lambda: lines.count(where=Order.note == "x"), "count over model.line is given a value of model.order"),
    (
        lambda: orders.sum(Order.weight),
        "A sum of floats is refused: it would depend on the order of its rows. Declare the column as Decimal.",
    ),
    (lambda: orders.sum(Order.note), "sum takes numbers, not text"),
]


@pytest.mark.parametrize(("declare", "message"), ENTITIES + EVENTS + VIEWS + EDGES + EXPRESSIONS)
def test_what_cannot_work_is_refused(declare: Callable[[], Any], message: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        declare()
    assert message in str(refused.value)


def test_catalogs_refuse_what_contradicts_itself() -> None:
    again = type(Event)(
        "Again", (Event,), {"__module__": __name__, "__annotations__": {"x": int}}, type=Placed.type
    )
    view = View("twice", Order, order_id=Order.order_id)
    other = View("twice", Order, order_id=Order.order_id, note=Order.note)
    for declare, message in [
        (
            lambda: Catalog.of([again], [Order]),
            "The event model.order.placed.v1 is declared twice, differently",
        ),
        (lambda: Catalog.of([], [Order], [view, other]), "The view twice is declared twice, differently"),
        (lambda: Catalog.of([], [], [view]), "View twice reads model.order, which the catalog does not have"),
        (
            lambda: Catalog.of([], [Order], [View("model_order", Order, order_id=Order.order_id)]),
            "View model_order has the name of the entity model.order. Rename the view.",
        ),
        (lambda: Catalog.load("no.such.module"), "The catalog module no.such.module cannot be imported"),
    ]:
        with pytest.raises(DeclarationError) as refused:
            declare()
        assert message in str(refused.value)


def test_key_fields_are_fields() -> None:
    with pytest.raises(DeclarationError, match="Keyed: key_fields names 'x', which is not a field of it"):

        class Keyed(Event, type="model.thing.keyed.v1"):
            key_fields = ("x",)


def test_declarations_have_no_instances_and_events_no_unknown_fields() -> None:
    with pytest.raises(DeclarationError, match="Order is a declaration"):
        Order()
    with pytest.raises(AttributeError):
        _ = Placed.colour
    with pytest.raises(AttributeError, match="Placed has no field"):
        _ = Placed.items.colour
