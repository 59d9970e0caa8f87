"""Events of an older contract read as the newer: live, rebuilt, and by a service's own subscriber."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest
from pydantic import field_validator

from mesh_core.emit.subscriber import Received, Subscriber
from mesh_core.engine.swapping import rollback
from mesh_core.model import Catalog, Col, Entity, Event, Key, View, many, upcast, upsert
from mesh_core.model.entity import Entity as AnyEntity
from tests.support.mesh import Mesh, Outcomes


class PlacedFirst(Event, type="shop.order.placed.v1"):
    order_id: int
    shopper: str
    amount: int


class Placed(
    Event,
    type="shop.order.placed.v2",
    upcasts=[upcast(PlacedFirst, total=PlacedFirst.amount, currency="EUR")],
):
    order_id: int
    shopper: str
    total: Decimal
    currency: str


class ShopperSaved(Event, type="shop.shopper.saved.v1"):
    shopper: str


class Shopper(Entity, service="shop"):
    shopper: Key[str]
    folds = upsert(ShopperSaved)


def catalog(event: type[Event], **values: Any) -> Catalog:
    """The same entity and view, whose orders are folded from this event."""
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {
            "order_id": Key[int],
            "shopper": Col[str],
            "total": Col[Decimal],
            "currency": Col[str],
        },
        "folds": upsert(event, **values),
    }
    order: Any = type(AnyEntity)("Order", (AnyEntity,), namespace, service="shop")
    orders: Any = many(order.shopper, Shopper.shopper)
    view = View(
        "spent", Shopper, shopper=Shopper.shopper, total=orders.sum(order.total), orders=orders.count()
    )
    return Catalog.of(entities=[order, Shopper], views=[view])


@pytest.fixture
def old_and_new(mesh: Mesh) -> Mesh:
    """A mesh that knows the first contract alone, with an event of it and one of the second in the log."""
    mesh.deploy(catalog(PlacedFirst, total=PlacedFirst.amount, currency="EUR"))
    mesh.publish(ShopperSaved(shopper="ann"), "ann")
    mesh.publish(PlacedFirst(order_id=1, shopper="ann", amount=5), 1)
    mesh.publish(Placed(order_id=2, shopper="ann", total=Decimal("2.50"), currency="USD"), 2)
    mesh.project()
    return mesh


ROWS = {1: (5, "EUR"), 2: (Decimal("2.50"), "USD"), 3: (7, "EUR"), 4: (1, "CHF")}


def rows(mesh: Mesh) -> dict[int, tuple[Any, ...]]:
    return {key: (row["total"], row["currency"]) for key, row in mesh.rows("shop_order").items()}


def test_both_contracts_fill_the_same_rows_live_and_rebuilt(old_and_new: Mesh) -> None:
    mesh = old_and_new
    (letter,) = mesh.held("dead")
    assert letter["reason"] == "unknown_version"
    assert "upcaster" in letter["detail"]
    assert rows(mesh) == {1: ROWS[1]}

    mesh.deploy(catalog(Placed))
    assert rows(mesh) == {1: ROWS[1], 2: ROWS[2]}, "built from the log, older events and newer ones"
    mesh.publish(PlacedFirst(order_id=3, shopper="ann", amount=7), 3)
    mesh.publish(Placed(order_id=4, shopper="ann", total=Decimal(1), currency="CHF"), 4)
    mesh.project()
    assert rows(mesh) == ROWS
    assert mesh.rows("spent")["ann"] == {"shopper": "ann", "total": Decimal("15.5"), "orders": 4}
    mesh.assert_sound()

    versions = mesh.query("SELECT max(id) FROM mesh.versions")
    mesh.deploy(catalog(Placed))
    assert mesh.query("SELECT max(id) FROM mesh.versions") == versions, "nothing has changed"
    mesh.deploy(rebuild=("shop.order",))
    assert rows(mesh) == ROWS
    rollback(mesh.database_url)
    mesh.project()
    mesh.assert_sound()


def test_a_payload_that_breaks_the_older_contract_is_a_dead_letter(mesh: Mesh) -> None:
    mesh.deploy(catalog(Placed))
    value = b"""{"specversion": "1.0", "id": "x", "source": "/t", "type": "shop.order.placed.v1", "subject": "1",
        "time": "2026-01-01T00:00:00Z", "data": {"order_id": 1, "shopper": "ann", "amount": "5"}}"""
    mesh.send("shop.events", b"1", value)
    mesh.project()
    (letter,) = mesh.held("dead")
    assert (letter["reason"], letter["detail"]) == (
        "wrong_type",
        "Expected `int`, got `str` - at `$.data.amount`",
    )
    assert mesh.outcomes("shop.events") == Outcomes(consumed=1, dead_lettered=1)


def test_what_a_class_of_its_own_refuses_is_a_dead_letter_of_the_subscriber(old_and_new: Mesh) -> None:
    class Strict(Event, type="shop.order.placed.v1"):
        order_id: int
        amount: int

        @field_validator("amount")
        @classmethod
        def even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("odd")
            return value

    subscriber = Subscriber("strict", old_and_new.database_url, old_and_new.driver)
    subscriber.on(Strict)(lambda received, connection: None)
    subscriber.create_tables()
    subscriber.run(until_end=True)
    refused = {letter.detail for letter in subscriber.letters() if letter.reason == "wrong_value"}
    assert refused == {"$.data.amount: Value error, odd"}


def test_a_subscriber_gets_older_events_as_the_newer(old_and_new: Mesh) -> None:
    mesh = old_and_new
    found: list[Placed] = []
    subscriber = Subscriber("upcasting", mesh.database_url, mesh.driver)

    @subscriber.on(Placed)
    def keep(received: Received[Placed], connection: psycopg.Connection[Any]) -> None:
        found.append(received.event)

    subscriber.create_tables()
    subscriber.run(until_end=True)
    assert sorted(found, key=lambda event: event.order_id) == [
        Placed(order_id=1, shopper="ann", total=Decimal(5), currency="EUR"),
        Placed(order_id=2, shopper="ann", total=Decimal("2.50"), currency="USD"),
    ]
