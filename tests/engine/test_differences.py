"""Counts and sums that are kept by difference, where that is not the same as adding up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.engine.domain import (
    CustomerRemoved,
    CustomerSaved,
    Item,
    ItemsChanged,
    OrderCancelled,
    OrderMoved,
    OrderNoted,
    OrderPlaced,
)
from tests.engine.totals import CATALOG
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_settings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def mesh(services: Services) -> Iterator[Mesh]:
    """The test domain and the totals; each test uses keys of its own."""
    with fresh_settings(services) as settings:
        made = Mesh(settings, CATALOG)
        made.deploy()
        yield made
        made.close()


def item(product: int, price: str, quantity: int = 1) -> Item:
    return Item(product_id=product, quantity=quantity, unit_price=Decimal(price))


def place(mesh: Mesh, number: int, customer: str, *items: Item) -> None:
    placed = OrderPlaced(order_id=number, customer_id=customer, placed_at=NOON, items=list(items))
    mesh.publish(placed, number)


def test_a_total_is_written_the_same_whatever_was_in_it_before(mesh: Mesh) -> None:
    with mesh.projecting():
        total = "SELECT total::text, several FROM read.order_totals WHERE order_id = 100"
        place(mesh, 100, "total", item(1, "1.50"))
        mesh.wait_caught_up()
        mesh.publish(ItemsChanged(order_id=100, items=[item(1, "1.50"), item(2, "0.25", 3)]), 100)
        mesh.wait_caught_up()
        assert mesh.query(total) == [("2.25", 1)]
        mesh.publish(ItemsChanged(order_id=100, items=[item(1, "1.50")]), 100)
        mesh.wait_caught_up()
        assert mesh.query(total) == [("1.5", 0)]
        report = mesh.deploy(rebuild=["order_totals"])
        assert [proof.equal for proof in report.proofs] == [True]
        assert mesh.query(total) == [("1.5", 0)]


def test_a_root_that_comes_late_gets_the_children_that_wait_for_it(mesh: Mesh) -> None:
    with mesh.projecting():
        place(mesh, 201, "late")
        place(mesh, 202, "late")
        mesh.wait_caught_up()
        assert "late" not in mesh.rows("customer_totals")
        place(mesh, 203, "late")
        mesh.publish(CustomerSaved(customer_id="late", name="Ada"), "late")
        mesh.wait_caught_up()
        assert mesh.rows("customer_totals")["late"]["order_count"] == 3
        place(mesh, 204, "late")
        mesh.wait_caught_up()
        assert mesh.rows("customer_totals")["late"]["order_count"] == 4
        mesh.assert_sound()


def test_a_root_that_goes_and_comes_back_beside_changes_of_its_children(mesh: Mesh) -> None:
    mesh.publish(CustomerSaved(customer_id="A", name="Ada"), "A")
    mesh.publish(CustomerSaved(customer_id="B", name="Bob"), "B")
    for number in range(1, 5):
        place(mesh, number, "A")
    mesh.project()
    mesh.publish(CustomerRemoved(customer_id="A"), "A")
    mesh.publish(CustomerSaved(customer_id="A", name="Ada again"), "A")
    mesh.publish(OrderMoved(order_id=1, customer_id="B"), 1)
    mesh.publish(OrderCancelled(order_id=2), 2)
    mesh.publish(OrderNoted(order_id=3, note="soon"), 3)
    mesh.project()
    rows = mesh.rows("customer_totals")
    assert [(rows[key]["order_count"], rows[key]["noted"], rows[key]["numbers"]) for key in "AB"] == [
        (2, 1, 7),
        (1, 0, 1),
    ]
    mesh.publish(CustomerRemoved(customer_id="A"), "A")
    mesh.project()
    place(mesh, 5, "A")
    mesh.project()
    assert "A" not in mesh.rows("customer_totals")
    mesh.publish(CustomerSaved(customer_id="A", name="Ada"), "A")
    mesh.project()
    assert mesh.rows("customer_totals")["A"]["order_count"] == 3
    mesh.assert_sound()
