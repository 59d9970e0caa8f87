"""Several projectors at once: whatever meets in one view, no change is missed and no zombie writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import psycopg
import pytest

from mesh_core.engine import session
from mesh_core.log import Chunk, TopicPartition
from mesh_core.store import checkpoints
from mesh_core.store.errors import Fenced
from mesh_core.store.view_writes import LOCK_SPACE, ViewVersion
from mesh_core.telemetry import metrics
from tests.engine.domain import (
    CustomerSaved,
    Item,
    OrderMoved,
    OrderPlaced,
    ProductListed,
    ProductPriced,
)
from tests.engine.events import Said, encoded
from tests.support.mesh import Mesh, Outcomes, wait_for

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CRM, SALES, STOCK = (TopicPartition(f"{name}.events", 0) for name in ("crm", "sales", "stock"))
_numbers = count(1)


class Side:
    """One of two projectors that are stepped through their transactions."""

    def __init__(self, mesh: Mesh, partition: TopicPartition) -> None:
        self.partition = partition
        self.connection, self.applier = mesh.applier([partition])
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    @property
    def pid(self) -> int:
        return self.connection.info.backend_pid

    def batch(self, *said: Said) -> Any:
        at = checkpoints.read(self.connection, [self.partition.topic])[self.partition].next_offset
        records = [encoded(each, event_id=f"e{next(_numbers)}", second=1) for each in said]
        offsets = list(range(at, at + len(records)))
        chunk = Chunk(
            self.partition,
            [key for key, _ in records],
            [value for _, value in records],
            offsets,
            [0] * len(records),
            [],
            at + len(records),
            at,
        )
        return self.applier.router.intake.batch(chunk)

    def apply(self, *said: Said) -> None:
        self.applier.apply([self.batch(*said)])

    def start(self, *said: Said) -> None:
        """Apply in the background."""
        self.thread = threading.Thread(target=self._run, args=(self.batch(*said),), daemon=True)
        self.thread.start()

    def _run(self, batch: Any) -> None:
        try:
            self.applier.apply([batch])
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        assert self.thread is not None
        self.thread.join(30)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture
def sides(mesh: Mesh) -> Iterator[Callable[[TopicPartition], Side]]:
    with ExitStack() as closing:

        def side(partition: TopicPartition) -> Side:
            made = Side(mesh, partition)
            closing.enter_context(made.connection)
            return made

        yield side


def waits_for_lock(mesh: Mesh, side: Side, kind: str) -> None:
    def waiting() -> bool:
        assert side.error is None, side.error
        found = mesh.query(
            "SELECT wait_event FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", side.pid
        )
        return found == [(kind,)]

    wait_for(waiting, 60, f"waiting for a {kind} lock")


def customer(key: str, name: str) -> Said:
    return Said("crm.events", key, "crm.customer.saved.v1", {"customer_id": key, "name": name})


def placed(number: int, owner: str) -> Said:
    data = {"order_id": number, "customer_id": owner, "placed_at": "2026-01-01T00:00:00Z"}
    items = [{"product_id": 1, "quantity": 2, "unit_price": 3}]
    return Said("sales.events", str(number), "sales.order.placed.v1", data | {"items": items})


def moved(number: int, owner: str) -> Said:
    return Said(
        "sales.events", str(number), "sales.order.moved.v1", {"order_id": number, "customer_id": owner}
    )


def product(price: int) -> Said:
    data = {"product_id": 1, "name": f"at {price}", "price": price}
    return Said("stock.events", "1", "stock.product.listed.v1", data)


@pytest.mark.parametrize("first_is_the_move", [True, False])
def test_whoever_takes_the_view_second_sees_what_the_first_committed(
    mesh: Mesh, sides: Callable[[TopicPartition], Side], first_is_the_move: bool
) -> None:
    """Both write their entities, neither sees the other's; then one refreshes, commits, and the other refreshes."""
    crm, sales = sides(CRM), sides(SALES)
    crm.apply(customer("A", "Ada"), customer("B", "Bob"))
    sales.apply(placed(1, "A"))
    first, second = (sales, crm) if first_is_the_move else (crm, sales)
    events = {sales: moved(1, "B"), crm: customer("B", "Bert")}

    with psycopg.connect(mesh.database_url, autocommit=True) as holder:
        for view in first.applier.plan.views:
            holder.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_SPACE, view.id])
        first.start(events[first])
        waits_for_lock(mesh, first, "advisory")
        second.start(events[second])
        waits_for_lock(mesh, second, "advisory")
        holder.execute("SELECT pg_advisory_unlock_all()")
    first.finish()
    second.finish()
    assert mesh.rows("order_overview")[1]["customer_name"] == "Bert"
    assert {key: row["order_count"] for key, row in mesh.rows("customer_overview").items()} == {
        "A": 0,
        "B": 1,
    }
    mesh.assert_sound()


def test_without_the_view_lock_an_update_is_missed(
    mesh: Mesh, sides: Callable[[TopicPartition], Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the lock is for; and that the test above could fail."""
    crm, sales = sides(CRM), sides(SALES)
    crm.apply(customer("A", "Ada"), customer("B", "Bob"))
    sales.apply(placed(1, "A"))
    both = threading.Barrier(2)
    refresh = ViewVersion.refresh

    def meeting(view: ViewVersion, cursor: psycopg.Cursor[Any], written: set[int], limit: int) -> None:
        refresh(view, cursor, written, limit)
        if view.model.name == "order_overview":
            both.wait(30)

    monkeypatch.setattr(ViewVersion, "lock", lambda *_: None)
    monkeypatch.setattr(ViewVersion, "refresh", meeting)
    sales.start(moved(1, "B"))
    crm.start(customer("B", "Bert"))
    sales.finish()
    crm.finish()
    assert mesh.rows("order_overview")[1]["customer_name"] == "Bob", "neither saw the other"


@pytest.mark.timeout(60)
def test_three_appliers_on_moves_renames_and_prices(
    mesh: Mesh, sides: Callable[[TopicPartition], Side]
) -> None:
    """As fast as they can, with nothing but the engine's own locks between them."""
    crm, sales, stock = sides(CRM), sides(SALES), sides(STOCK)
    crm.apply(*(customer(key, "?") for key in "ABCD"))
    sales.apply(*(placed(number, "A") for number in range(8)))
    stock.apply(product(0))
    rounds = 40
    errors: list[BaseException] = []
    together = threading.Barrier(3)

    def run(side: Side, said: Callable[[int], list[Said]]) -> None:
        try:
            together.wait(30)
            for turn in range(rounds):
                side.apply(*said(turn))
        except BaseException as error:
            errors.append(error)

    jobs: list[tuple[Side, Callable[[int], list[Said]]]] = [
        (crm, lambda turn: [customer("ABCD"[turn % 4], f"name {turn}")]),
        (sales, lambda turn: [moved(number, "ABCD"[(turn + number) % 4]) for number in range(8)]),
        (stock, lambda turn: [product(turn)]),
    ]
    threads = [threading.Thread(target=run, args=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not errors
    mesh.assert_sound()
    for number, row in mesh.rows("order_overview").items():
        owner = (rounds - 1 + number) % 4
        assert row["customer_name"] == f"name {rounds - 4 + owner}"
        assert row["products"] == [f"at {rounds - 1}"]
    assert [row["order_count"] for row in mesh.rows("customer_overview").values()] == [2, 2, 2, 2]


def test_one_whose_partition_was_taken_away_cannot_commit(
    mesh: Mesh, sides: Callable[[TopicPartition], Side]
) -> None:
    zombie = sides(CRM)
    batch = zombie.batch(customer("A", "of the zombie"))
    heir = sides(CRM)
    with pytest.raises(Fenced):
        zombie.applier.apply([batch])
    assert mesh.rows("crm_customer") == {}
    assert mesh.outcomes() == Outcomes()
    heir.apply(customer("A", "of the heir"))
    with pytest.raises(Fenced):
        zombie.applier.apply([batch])
    assert mesh.rows("crm_customer")["A"]["name"] == "of the heir"
    assert mesh.outcomes() == Outcomes(consumed=1, applied=1)


def test_a_zombie_that_waits_for_the_row_fails_once_it_has_it(
    mesh: Mesh, sides: Callable[[TopicPartition], Side]
) -> None:
    zombie = sides(CRM)
    with psycopg.connect(mesh.database_url) as taking:
        with taking.transaction():
            checkpoints.take_over(taking, [CRM])
            zombie.start(customer("A", "of the zombie"))
            waits_for_lock(mesh, zombie, "transactionid")
        with pytest.raises(Fenced):
            zombie.finish()
    assert mesh.rows("crm_customer") == {}
    assert mesh.outcomes() == Outcomes()


def test_taking_over_waits_for_the_batch_that_is_being_applied(
    mesh: Mesh, sides: Callable[[TopicPartition], Side]
) -> None:
    """So the heir starts after it, and nothing is applied twice."""
    first = sides(CRM)
    with psycopg.connect(mesh.database_url, autocommit=True) as holder:
        for view in first.applier.plan.views:
            holder.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_SPACE, view.id])
        first.start(customer("A", "Ada"))
        waits_for_lock(mesh, first, "advisory")
        taken: list[int] = []

        def take() -> None:
            with psycopg.connect(mesh.database_url, autocommit=True) as heir:
                taken.append(checkpoints.take_over(heir, [CRM])[CRM].next_offset)

        taking = threading.Thread(target=take, daemon=True)
        taking.start()
        time.sleep(0.2)
        assert taken == []
        holder.execute("SELECT pg_advisory_unlock_all()")
    first.finish()
    taking.join(30)
    assert taken == [1]


def test_two_projectors_on_moves_and_renames_that_meet_in_one_view(mesh: Mesh) -> None:
    for key in "ABCD":
        mesh.publish(CustomerSaved(customer_id=key, name="?"), key)
    for number in range(20):
        items = [Item(product_id=number % 3, quantity=1, unit_price=Decimal(1))]
        mesh.publish(OrderPlaced(order_id=number, customer_id="A", placed_at=NOON, items=items), number)
    with mesh.projecting(), mesh.projecting():
        for turn in range(150):
            mesh.publish(CustomerSaved(customer_id="ABCD"[turn % 4], name=f"name {turn}"), "ABCD"[turn % 4])
            mesh.publish(OrderMoved(order_id=turn % 20, customer_id="ABCD"[turn % 3]), turn % 20)
            mesh.publish(ProductListed(product_id=turn % 3, name=f"product {turn}"), turn % 3)
            mesh.publish(ProductPriced(product_id=turn % 3, price=Decimal(turn)), turn % 3)
            if turn % 15 == 0:
                time.sleep(0.05)
        mesh.wait_caught_up()
    assert mesh.outcomes() == Outcomes(consumed=624, applied=624)
    mesh.assert_sound()
    rows = mesh.rows("order_overview")
    for number in range(20):
        owner = "ABCD"[next(turn for turn in range(149, -1, -1) if turn % 20 == number) % 3]
        assert rows[number]["customer_name"] == mesh.rows("crm_customer")[owner]["name"]


def test_a_lock_that_is_held_for_long_is_tried_for_again(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits in Postgres does not poll, and the group would take it for dead."""
    monkeypatch.setattr(session, "LOCK_TIMEOUT_MS", 100)
    tries = metrics.RETRIES.labels("postgres")._value
    with psycopg.connect(mesh.database_url) as holder, mesh.projecting():
        mesh.publish(CustomerSaved(customer_id="A", name="Ada"), "A")
        mesh.wait_caught_up()
        before = tries.get()
        holder.execute("SELECT FROM mesh.checkpoints WHERE topic = 'crm.events' FOR UPDATE")
        mesh.publish(CustomerSaved(customer_id="A", name="Eve"), "A")
        mesh.publisher.flush()
        wait_for(lambda: tries.get() > before, 60, "a second try")
        assert mesh.rows("customer_overview")["A"]["name"] == "Ada"
        holder.rollback()
        mesh.wait_caught_up()
    assert mesh.rows("customer_overview")["A"]["name"] == "Eve"
    assert mesh.halted() == {}
    mesh.assert_sound()
