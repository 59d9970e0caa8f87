"""Histories of rows on real Kafka: what is told, and that nobody notices that it is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from mesh_core.engine.lineage import Lineage, lineage
from mesh_core.log import Delivered
from mesh_core.model.builtin import WorkflowCreated
from mesh_core.model.states import difference
from mesh_core.read.errors import LogIncomplete
from mesh_core.settings import ROOT
from tests.engine import test_upcasts
from tests.engine.domain import (
    CustomerRemoved,
    CustomerSaved,
    CustomerVisited,
    Item,
    OrderCancelled,
    OrderMoved,
    OrderNoted,
    OrderPlaced,
    ProductListed,
    ProductPriced,
)
from tests.support.mesh import Mesh, wait_for
from tests.support.services import environment_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FLOW = UUID("0197a000-0000-7000-8000-000000000001")


def ordered(number: int, customer: str, *products: int, note: str | None = None) -> OrderPlaced:
    items = [Item(product_id=product, quantity=1, unit_price=Decimal(2)) for product in products]
    return OrderPlaced(order_id=number, customer_id=customer, placed_at=NOON, items=items, note=note)


def publish(mesh: Mesh, *events: Any, **more: Any) -> None:
    """In this order, also across topics: each in a millisecond of its own."""
    for event in events:
        name = {"crm": "customer_id", "sales": "order_id", "stock": "product_id"}.get(
            event.type.split(".")[0]
        )
        mesh.publish(event, getattr(event, name or "workflow_id"), **more)
        mesh.publisher.flush()
        time.sleep(0.002)


def told(mesh: Mesh, view: str, key: str) -> Lineage:
    return lineage(mesh.database_url, mesh.driver, view, key)


def short(found: Lineage) -> list[tuple[str, str, set[str]]]:
    """(type without service and version, change, columns) of each step."""
    named = [(each.cause.type or "", *difference(each.before, each.after)) for each in found.steps]
    return [
        (kind.split(".", 1)[-1].rpartition(".")[0], change, set(columns)) for kind, change, columns in named
    ]


def test_an_order_that_goes_to_another_customer_touches_both(mesh: Mesh) -> None:
    publish(
        mesh,
        CustomerSaved(customer_id="a", name="Ann"),
        CustomerSaved(customer_id="b", name="Bob"),
        ordered(1, "a", 7),
        OrderMoved(order_id=1, customer_id="b"),
        OrderNoted(order_id=1, note="late"),
    )
    mesh.project()
    one, other = (short(told(mesh, "customer_overview", key)) for key in "ab")
    assert [(kind, change) for kind, change, _ in one] == [
        ("customer.saved", "created"), ("order.placed", "changed"), ("order.moved", "changed"),
    ]  # fmt: skip
    assert [kind for kind, _, _ in other] == ["customer.saved", "order.moved", "order.noted"]
    assert other[2][2] == {"noted", "last_note", "first_note"}


def test_a_row_that_was_deleted_and_made_again_has_one_history(mesh: Mesh) -> None:
    publish(
        mesh,
        ordered(1, "a"),
        OrderNoted(order_id=1, note="not in the view"),
        CustomerSaved(customer_id="a", name="Ann"),
        OrderCancelled(order_id=1),
        CustomerSaved(customer_id="a", name="Anna"),
        ordered(1, "b"),
        CustomerRemoved(customer_id="a"),
    )
    mesh.project()
    assert short(told(mesh, "order_overview", "1"))[1:3] == [
        ("customer.saved", "changed", {"customer_name"}),
        ("order.cancelled", "deleted", {"order_id", "customer_name", "clicks", "line_count", "total", "dear", "products"}),
    ]  # fmt: skip
    assert [each[:2] for each in short(told(mesh, "order_overview", "1"))[3:]] == [
        ("order.placed", "created")
    ]


def test_what_repeats_an_event_touches_nothing(mesh: Mesh) -> None:
    visit = CustomerVisited(customer_id="a", points=2, spent=Decimal(1), at=NOON)
    publish(mesh, CustomerSaved(customer_id="a", name="Ann"), ordered(1, "a"))
    publish(mesh, visit, visit, sequence=1)
    publish(mesh, visit, sequence=2)
    mesh.project()
    found = [
        step for step in told(mesh, "order_overview", "1").steps if step.cause.type == CustomerVisited.type
    ]
    assert [(step.cause.offset, step.after["points"] if step.after else None) for step in found] == [
        (found[0].cause.offset, 2), (found[0].cause.offset + 2, 4),
    ]  # fmt: skip


def test_a_workflow_leads_to_the_rows_of_its_entries(mesh: Mesh) -> None:
    publish(mesh, WorkflowCreated(workflow_id=FLOW, name="one"))
    publish(mesh, CustomerSaved(customer_id="a", name="Ann"))
    publish(mesh, ordered(1, "a", note="x"), OrderNoted(order_id=1, note="y"), workflow=FLOW)
    publish(mesh, OrderNoted(order_id=1, note="z"), ordered(2, "a"))
    mesh.project()
    found = short(told(mesh, "workflow_overview", str(FLOW)))
    assert [kind for kind, _, _ in found] == ["workflow.created", *["order.placed"], *["order.noted"] * 2]
    assert short(told(mesh, "order_friends", "2"))[0][:2] == ("order.placed", "created")


def test_a_decision_touches_and_names_what_it_had_applied(mesh: Mesh) -> None:
    publish(mesh, ordered(1, "a"))
    wrong = {
        "specversion": "1.0",
        "id": "w",
        "source": "/t",
        "type": ProductListed.type,
        "time": "2026-01-01T00:00:00Z",
    }
    letter = mesh.send("stock.events", b"7", json.dumps({**wrong, "data": {"product_id": 7}}).encode())
    time.sleep(0.002)
    publish(mesh, ProductPriced(product_id=7, price=Decimal(9)))
    time.sleep(0.002)
    right = {**wrong, "data": {"product_id": 7, "name": "Tea", "price": 1}}
    mesh.decide(letter, "edit", json.dumps(right).encode())
    mesh.project()
    (step,) = told(mesh, "product_sales", "7").steps
    assert step.cause.type == "mesh.dead_letter.decided.v1"
    priced = Delivered(letter.partition, letter.offset + 1)
    assert step.cause.released == [(each.partition, each.offset) for each in (letter, priced)]


def test_events_of_an_older_contract_touch_as_the_newer(mesh: Mesh) -> None:
    mesh.deploy(test_upcasts.catalog(test_upcasts.Placed))
    mesh.publish(test_upcasts.ShopperSaved(shopper="ann"), "ann")
    mesh.publish(test_upcasts.PlacedFirst(order_id=1, shopper="ann", amount=5), 1)
    mesh.publisher.flush()
    time.sleep(0.002)
    mesh.publish(test_upcasts.Placed(order_id=2, shopper="ann", total=Decimal("2.50"), currency="USD"), 2)
    mesh.project()
    found = told(mesh, "spent", "ann").steps
    assert {each.cause.type for each in found} >= {"shop.order.placed.v1", "shop.order.placed.v2"}
    assert found[-1].after == {"shopper": "ann", "total": Decimal("7.50"), "orders": 2}


def backends(mesh: Mesh) -> list[tuple[Any, ...]]:
    return mesh.query(
        "SELECT pid, state FROM pg_stat_activity WHERE application_name = 'mesh history' AND datname = current_database()"
    )


def control(mesh: Mesh) -> dict[str, Any]:
    """All that the mesh keeps, in figures: relations, and the rows of the control tables."""
    tables = [
        "held_events",
        "decisions",
        "event_index",
        "sequences",
        "recent_ids",
        "checkpoints",
        "versions",
        "fan_out",
    ]
    rows = {
        name: mesh.query(f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM mesh.{name} t")
        for name in tables
    }
    return {
        **rows,
        "relations": mesh.query(
            "SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text = 'data' ORDER BY 1"
        ),
    }


@pytest.fixture
def long(mesh: Mesh) -> Mesh:
    """A mesh with a product that has changed thousands of times."""
    mesh.publish(ProductListed(product_id=1, name="Tea", price=Decimal(1)), 1)
    for price in range(4000):
        mesh.publish(ProductPriced(product_id=1, price=Decimal(price)), 1)
    mesh.publish(CustomerSaved(customer_id="a", name="Ann"), "a")
    mesh.project()
    return mesh


@contextmanager
def telling(mesh: Mesh) -> Iterator[subprocess.Popen[bytes]]:
    """`mesh history` of that product, in the midst of it: its tables are there, and being written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh_core.cli", "history", "product_sales", "1"],
        cwd=ROOT,
        env=environment_of(mesh.settings) | {"MESH_CATALOG": "tests.engine.domain"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: is_writing(mesh), 60, "the telling")
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


def is_writing(mesh: Mesh) -> bool:
    """Whether a history has locked tables of its own that it writes."""
    return mesh.query(
        "SELECT count(*) > 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name = 'mesh history' "
        "AND pg_locks.mode = 'RowExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ) == [(True,)]


def test_whoever_is_killed_leaves_nothing_behind(long: Mesh) -> None:
    before = control(long)
    with telling(long) as process:
        process.kill()
        process.wait()
    wait_for(lambda: not backends(long), 20, "the end of its session")
    assert control(long) == before
    assert not long.query("SELECT FROM pg_class WHERE relname LIKE '%%history\\_%%'")
    long.assert_sound()


def test_a_projector_and_a_migration_wait_for_no_history(long: Mesh) -> None:
    with telling(long):
        touched = long.query(
            "SELECT DISTINCT relation::regclass::text FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE application_name = 'mesh history' AND locktype = 'relation' AND relation::regclass::text LIKE 'mesh.%%'"
        )
        assert touched == []
        publish(long, ordered(1, "a", 1), CustomerSaved(customer_id="a", name="Anna"))
        with psycopg.connect(long.database_url) as connection:  # as a migration would
            connection.execute("SET lock_timeout = '2s'")
            connection.execute("LOCK TABLE mesh.held_events, mesh.sequences, mesh.recent_ids, mesh.decisions")
        begun = time.monotonic()
        long.project()
        assert backends(long), "it is still being told"
        assert time.monotonic() - begun < 20
    assert long.rows("order_overview")[1]["customer_name"] == "Anna"


def test_histories_that_are_told_at_once_do_not_meet(mesh: Mesh) -> None:
    publish(mesh, CustomerSaved(customer_id="a", name="Ann"), ordered(1, "a", 7), ordered(2, "a"))
    mesh.project()
    found: list[Sequence[Any]] = []
    threads = [
        threading.Thread(target=lambda: found.append(told(mesh, "customer_overview", "a").steps))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [len(each) for each in found] == [3, 3, 3]


def test_a_log_that_has_lost_its_beginning_tells_no_history(mesh: Mesh) -> None:
    publish(mesh, ordered(1, "a"))
    mesh.project()
    mesh.execute("UPDATE mesh.checkpoints SET topic_id = 'another' WHERE topic = 'sales.events'")
    with pytest.raises(LogIncomplete, match="re-created"):
        told(mesh, "order_overview", "1")
