"""Upcasters: what they come to as folds, and what is refused when they are declared."""

# mypy: ignore-errors
# Some are wrong on purpose.

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from annotated_types import MaxLen

from mesh_core.model import (
    Catalog,
    Col,
    DeclarationError,
    Entity,
    Event,
    Key,
    Part,
    add,
    delete,
    patch,
    upcast,
    upsert,
)
from mesh_core.model.entity import EntityModel


class Place(Part):
    town: str


class First(Event, type="shop.order.placed.v1"):
    order_id: int
    amount: int
    status: Literal["new", "old"]
    note: str | None = None
    where: Place | None = None


class Second(
    Event,
    type="shop.order.placed.v2",
    upcasts=[upcast(First, total=First.amount, currency="EUR", city=First.where.town)],
):
    order_id: int
    total: Decimal
    currency: str
    status: str
    city: str | None
    weight: float = 1.5


class Third(Event, type="shop.order.placed.v3", upcasts=[upcast(Second, number=Second.order_id)]):
    number: int
    total: Decimal
    currency: str
    status: str
    city: str | None = None


class Order(Entity, service="shop"):
    number: Key[int]
    total: Col[Decimal]
    currency: Col[str]
    status: Col[str]
    city: Col[str | None]
    folds = upsert(Third, city=Third.city)


def folds_of(model: EntityModel) -> dict[str, dict[str, Any]]:
    return {
        fold.contract.type: {"keys": [key.to_json() for key in fold.keys]}
        | {each.column: each.source.to_json() for each in fold.operations}
        for fold in model.folds
    }


def test_a_fold_brings_those_of_all_older_contracts() -> None:
    assert folds_of(Order.model) == {
        "shop.order.placed.v3": {
            "keys": [{"data": "number"}], "total": {"data": "total"}, "currency": {"data": "currency"},
            "status": {"data": "status"}, "city": {"data": "city"},
        },
        "shop.order.placed.v2": {
            "keys": [{"data": "order_id"}], "total": {"data": "total"}, "currency": {"data": "currency"},
            "status": {"data": "status"}, "city": {"data": "city"},
        },
        "shop.order.placed.v1": {
            "keys": [{"data": "order_id"}], "total": {"data": "amount"}, "currency": {"constant": "EUR"},
            "status": {"data": "status"}, "city": {"data": "where.town"},
        },
    }  # fmt: skip
    catalog = Catalog.of(entities=[Order])
    assert {"shop.order.placed.v1", "shop.order.placed.v2"} < set(catalog.contracts)
    assert EntityModel.from_json(Order.model.to_json()).folds == Order.model.folds


def test_a_fold_that_is_written_stands() -> None:
    class Counted(Entity, service="shop"):
        order_id: Key[int]
        total: Col[Decimal]
        folds = upsert(Second), patch(First, total=add(First.amount, window=9))

    assert folds_of(Counted.model)["shop.order.placed.v1"] == {
        "keys": [{"data": "order_id"}],
        "total": {"data": "amount"},
    }
    assert [fold.kind for fold in Counted.model.folds] == ["upsert", "patch"]


def test_lists_and_deletes_are_upcast() -> None:
    class Item(Part):
        sku: str
        count: int

    class Old(Event, type="shop.cart.filled.v1"):
        cart: str
        things: list[Item]

    class New(Event, type="shop.cart.filled.v2", upcasts=[upcast(Old, items=Old.things)]):
        cart: str
        items: list[Item]

    class Gone(Event, type="shop.cart.gone.v1"):
        id: str

    class GoneToo(Event, type="shop.cart.gone.v2", upcasts=[upcast(Gone, cart=Gone.id)]):
        cart: str

    class Line(Entity, service="shop"):
        cart: Key[str]
        sku: Key[str]
        count: Col[int]
        folds = upsert(New, each=New.items), delete(GoneToo)

    each = {
        fold.contract.type: (fold.each, [key.to_json() for key in fold.keys]) for fold in Line.model.folds
    }
    assert each["shop.cart.filled.v1"] == ("things", [{"data": "cart"}, {"element": "sku"}])
    assert each["shop.cart.gone.v1"] == (None, [{"data": "id"}])

    class Bare(Event, type="shop.cart.filled.v3", upcasts=[upcast(New, lines=New.items)]):
        cart: str
        lines: list[Sized]

    with pytest.raises(DeclarationError, match="an element of items has no size"):

        class Sizes(Entity, service="shop"):
            cart: Key[str]
            sku: Key[str]
            size: Col[int]
            folds = upsert(Bare, each=Bare.lines)


class Sized(Part):
    sku: str
    size: int = 0


class Bare(Event):
    x: int


def newer(declared: Any, kind: str = "shop.order.placed.v2", **fields: Any) -> None:
    type(Event)(
        "Newer", (Event,), {"__module__": __name__, "__annotations__": fields}, type=kind, upcasts=[declared]
    )


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: newer(upcast(Bare)), "is not of an event with a type"),
        (lambda: newer(upcast(First), "shop.order.placed.v1"), "is not an older version"),
        (lambda: newer(upcast(First), "shop.order.paid.v2"), "is not an older version"),
        (lambda: newer(upcast(First, other=1), order_id=int), "'other' is not a field of Newer"),
        (lambda: newer(upcast(First), total=int), "field total: First has no field of that name"),
        (lambda: newer(upcast(First, total=Second.total), total=int), "Second is another event"),
        (
            lambda: newer(upcast(First, total=First.status), total=int),
            "First.status is enum, which does not read as int",
        ),
        (lambda: newer(upcast(First, total=First.note), total=str), "First.note can be missing"),
        (lambda: newer(upcast(First), status=Literal["new"]), "not all that First.status may be"),
        (
            lambda: newer(upcast(First), note=Annotated[str | None, MaxLen(3)]),
            "not all that First.note may be",
        ),
        (lambda: newer(upcast(First), where=Sized | None), "not all that First.where may be"),
        (lambda: newer(upcast(First), status=Annotated[str, MaxLen(9)]), "which does not read as text"),
        (lambda: newer(upcast(First, total=None), total=str), "is required, so it cannot come from None"),
        (lambda: newer(upcast(First, total="x"), total=int), "'x' is not int"),
        (lambda: newer(upcast(First, total=True), total=int), "True is not int"),
        (lambda: newer(upcast(First, total="x"), total=Literal["a"]), "'x' is none of its values"),
        (
            lambda: newer(upcast(First, total=date(2026, 1, 1)), total=date),
            "neither a field of the event nor a plain",
        ),
    ],
)
def test_what_cannot_work_is_refused(declare: Any, said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert said in str(caught.value)


def test_a_column_that_the_older_event_cannot_fill_is_refused() -> None:
    class Old(Event, type="shop.item.made.v1"):
        sku: str
        size: dict[str, Any]

    class New(Event, type="shop.item.made.v2", upcasts=[upcast(Old)]):
        sku: str
        size: dict[str, Any]

    with pytest.raises(DeclarationError, match="does not read as object"):

        class Never(Event, type="shop.item.made.v4", upcasts=[upcast(New, box=New.size)]):
            sku: str
            box: Box


class Box(Part):
    width: int
