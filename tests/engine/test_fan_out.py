"""One change, many rows: queued, and drained in bounded transactions, whatever else changes meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest

from mesh_core.engine.checking import check
from mesh_core.engine.draining import Draining
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.pruning import idle, prunable, prune
from mesh_core.engine.session import Session
from mesh_core.model import Event
from mesh_core.store import versions
from mesh_core.store.view_writes import LOCK_SPACE
from tests.engine.desk import ClientSaved, TicketMoved, TicketOpened, catalog, changes
from tests.engine.domain import (
    CustomerSaved,
    Item,
    ItemsChanged,
    OrderMoved,
    OrderNoted,
    OrderPlaced,
)
from tests.support.mesh import Mesh, checkpoints_of, wait_for

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDERS, LIMIT = 200, 50


def customer(key: str, name: str) -> tuple[CustomerSaved, str]:
    return CustomerSaved(customer_id=key, name=name), key


def placed(number: int, owner: str) -> tuple[OrderPlaced, int]:
    return OrderPlaced(order_id=number, customer_id=owner, placed_at=NOON, items=[]), number


def moved(number: int, owner: str) -> tuple[OrderMoved, int]:
    return OrderMoved(order_id=number, customer_id=owner), number


class Shop:
    """Customer A with ORDERS orders, B with none; batches and drains are made one by one."""

    def __init__(self, mesh: Mesh, closing: ExitStack) -> None:
        self.mesh, self._closing = mesh, closing
        self.says(
            customer("A", "Ada"), customer("B", "Bob"), *(placed(n, "A") for n in range(ORDERS)), limit=9999
        )

    def says(self, *said: tuple[Event, object], limit: int = LIMIT) -> None:
        """Published and applied, nothing drained."""
        for event, key in said:
            self.mesh.publish(event, key)
        self.mesh.publisher.flush()
        connection, applier = self.mesh.applier(list(checkpoints_of(self.mesh)), fan_out_limit=limit)
        with connection, self.mesh.driver.consumer() as consumer:
            standing = dict(checkpoints_of(self.mesh))
            consumer.assign(standing)
            ends = consumer.end_offsets(list(standing))
            while any(standing[at] < end for at, end in ends.items()):
                for chunk in consumer.poll(20_000, 1.0):
                    batch = applier.router.intake.batch(chunk)
                    standing.update(applier.apply([batch]).positions)

    def drainer(self, chunk: int = LIMIT, listed: int = 100_000) -> Draining:
        """What a projector has, on a connection of its own; of order_overview alone."""
        connection, applier = self.mesh.applier()
        self._closing.enter_context(connection)
        applier.prepare()
        applier.plan.views = [view for view in applier.plan.views if view.model.name == "order_overview"]
        session = SimpleNamespace(applier=applier, connected=lambda: connection)
        return Draining(cast(Session, session), chunk, listed)

    def names(self) -> dict[str, int]:
        """How many orders have which customer's name."""
        found: dict[str, int] = {}
        for row in self.mesh.rows("order_overview").values():
            found[row["customer_name"]] = found.get(row["customer_name"], 0) + 1
        return found

    def pending(self) -> int:
        """Rows of order_overview that are still to be recomputed; all others are as they should be."""
        results = {result.view: result for result in check(self.mesh.database_url)}
        assert all(result.clean for result in results.values()), results
        return results["order_overview"].pending


@pytest.fixture
def shop(mesh: Mesh) -> Iterator[Shop]:
    with ExitStack() as closing:
        yield Shop(mesh, closing)


def test_a_rename_beyond_the_limit_is_drained_in_bounded_transactions(shop: Shop) -> None:
    shop.says(customer("A", "Anna"))
    assert shop.mesh.fan_outs("order_overview") == [("order_overview", ["A"], None, None)]
    assert shop.names() == {"Ada": ORDERS}
    assert shop.mesh.rows("customer_overview")["A"]["name"] == "Anna", "other views do not wait"
    draining = shop.drainer()
    for done in range(0, ORDERS, LIMIT):
        assert shop.pending() == ORDERS - done
        assert draining.step()
        assert shop.names().get("Anna") == done + LIMIT
    assert shop.mesh.fan_outs("order_overview") == []
    assert not draining.step()
    assert shop.pending() == 0
    shop.mesh.assert_sound()


def test_what_reaches_few_is_done_at_once_beside_what_reaches_many(shop: Shop) -> None:
    shop.says(moved(0, "B"), moved(1, "C"), customer("C", "Cid"))
    shop.says(customer("A", "Anna"), customer("B", "Bert"), customer("C", "Carl"))
    queued = {key[0] for _, key, _, _ in shop.mesh.fan_outs("order_overview")}
    assert queued == {"A"}
    assert shop.names() == {"Ada": ORDERS - 2, "Bert": 1, "Carl": 1}
    shop.drainer().finish()
    assert shop.names() == {"Anna": ORDERS - 2, "Bert": 1, "Carl": 1}
    shop.mesh.assert_sound()


def test_many_that_reach_few_each_are_bounded_too(shop: Shop) -> None:
    owners = [f"K{n}" for n in range(ORDERS // 2)]
    shop.says(*(moved(n, owners[n // 2]) for n in range(ORDERS)), limit=9999)
    shop.says(*(customer(key, f"name of {key}") for key in owners))
    assert 0 < len(shop.mesh.fan_outs("order_overview")) <= len(owners)
    assert shop.pending() > 0
    draining = shop.drainer()
    while draining.step():
        shop.pending()
    assert shop.names() == {f"name of {key}": 2 for key in owners}
    shop.mesh.assert_sound()


def test_a_second_rename_is_carried_to_all_rows_once_more(shop: Shop) -> None:
    shop.says(customer("A", "Anna"))
    draining = shop.drainer()
    draining.step()
    shop.says(customer("A", "Aino"))
    (place,) = shop.mesh.fan_outs("order_overview")
    assert place == ("order_overview", ["A"], [LIMIT - 1], [LIMIT - 1]), "from here on, and round to here"
    assert shop.pending() == ORDERS
    for done in range(0, ORDERS, LIMIT):
        while shop.names().get("Aino", 0) < done + LIMIT:
            assert draining.step()
        assert shop.pending() == ORDERS - done - LIMIT
    assert shop.names() == {"Aino": ORDERS}
    assert shop.mesh.fan_outs("order_overview") == []


def test_a_neighbour_that_changes_all_the_time_keeps_no_row_waiting(shop: Shop) -> None:
    """Draining goes on where it was: starting anew at every change, it would never come to the last rows."""
    draining = shop.drainer()
    for turn in range(2 * ORDERS // LIMIT):
        shop.says(customer("A", f"name {turn}"))
        while not draining.step():
            pass
    assert shop.names().get("Ada", 0) == 0
    draining.finish()
    assert shop.names() == {f"name {turn}": ORDERS}
    shop.mesh.assert_sound()


def test_a_list_made_before_another_change_is_of_no_use(shop: Shop) -> None:
    shop.says(customer("A", "Anna"))
    draining = shop.drainer()
    draining.step()  # has listed all that A had then
    shop.says(moved(0, "B"), moved(199, "B"), placed(900, "A"), placed(70, "A"))
    shop.says(customer("A", "Aino"))
    draining.finish()
    assert shop.names() == {"Aino": ORDERS - 1, "Bob": 2}
    shop.mesh.assert_sound()


def test_roots_and_children_that_change_meanwhile(shop: Shop) -> None:
    shop.says(customer("A", "Anna"))
    draining, turn = shop.drainer(chunk=20, listed=60), 0
    while draining.step():
        turn += 1
        done, ahead = 20 * turn - 1, ORDERS - turn
        shop.says(
            moved(done, "B"), moved(ahead, "B"), moved(turn, "B"), moved(turn, "A"), placed(1000 + turn, "A")
        )
        items = [Item(product_id=2, quantity=turn, unit_price=Decimal(2))]
        shop.says(
            (ItemsChanged(order_id=ahead - 1, items=items), ahead - 1),
            (OrderNoted(order_id=5, note=f"{turn}"), 5),
        )
        if turn == 3:
            shop.says(customer("B", "Bert"))
        shop.pending()
    assert set(shop.names()) == {"Anna", "Bert"}
    assert shop.mesh.fan_outs("order_overview") == []
    shop.mesh.assert_sound()


def test_two_drain_and_each_takes_what_the_other_left(shop: Shop) -> None:
    shop.says(customer("A", "Anna"))
    first, second = shop.drainer(chunk=10), shop.drainer(chunk=10)
    assert first.step()
    assert not second.step(), "the first one has claimed the view"
    first._release()
    assert second.step(), "goes on from the cursor"
    assert shop.names()["Anna"] == 20
    assert not first.step()
    second._release()
    while first.step():
        first._release()
        second.step()
        second._release()
    assert shop.names() == {"Anna": ORDERS}
    shop.mesh.assert_sound()


def test_two_drain_at_once(shop: Shop) -> None:
    shop.says(customer("A", "Anna"))
    errors: list[BaseException] = []

    def drain(draining: Draining) -> None:
        try:
            draining.finish()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=drain, args=(shop.drainer(chunk=3, listed=11),), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for turn in range(5):
        shop.says(customer("A", f"name {turn}"), moved(turn, "B"), moved(100 + turn, "B"))
    for thread in threads:
        thread.join(30)
    assert not errors
    shop.drainer().finish()
    assert shop.names() == {f"name {turn}": ORDERS - 10, "Bob": 10}
    shop.mesh.assert_sound()


def test_draining_waits_for_nobody(shop: Shop) -> None:
    """A batch that holds the view goes first; a drain waits for no checkpoint."""
    shop.says(customer("A", "Anna"))
    draining = shop.drainer()
    (view,) = shop.mesh.query("SELECT id FROM mesh.versions WHERE name = 'order_overview'")
    with psycopg.connect(shop.mesh.database_url, autocommit=True) as other:
        with other.transaction():
            other.execute("SELECT FROM mesh.checkpoints FOR UPDATE")
            assert draining.step()
        other.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, view[0]))
        assert not draining.step()
    wait_for(draining.step, what="getting the view")
    assert shop.names() == {"Anna": 2 * LIMIT, "Ada": ORDERS - 2 * LIMIT}


def test_what_dies_between_two_chunks_is_gone_on_with(shop: Shop) -> None:
    shop.says(customer("A", "Anna"))
    dying = shop.drainer()
    dying.step()
    shop.mesh.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    with pytest.raises(psycopg.OperationalError):
        dying.step()
    heir = shop.drainer()
    wait_for(heir.step, what="claiming the view")
    assert shop.names() == {"Anna": 2 * LIMIT, "Ada": ORDERS - 2 * LIMIT}
    heir.finish()
    shop.mesh.assert_sound()


def test_projectors_that_are_killed_leave_the_rest_to_others(shop: Shop) -> None:
    mesh = shop.mesh
    mesh.settings = mesh.settings.model_copy(update={"fan_out_limit": 1})
    killed = mesh.spawn()
    try:
        mesh.publish(*customer("A", "Anna"))
        mesh.publisher.flush()
        wait_for(lambda: shop.names().get("Anna", 0) > 3, 60, "draining")
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
    assert shop.pending() == shop.names().get("Ada", 0) > 0
    mesh.project()
    assert shop.names() == {"Anna": ORDERS}
    mesh.assert_sound()


def test_running_projectors_drain_while_batches_come(shop: Shop) -> None:
    mesh = shop.mesh
    mesh.settings = mesh.settings.model_copy(update={"fan_out_limit": 20})
    with mesh.projecting(), mesh.projecting():
        for turn in range(60):
            mesh.publish(*customer("A", f"name {turn}"))
            mesh.publish(*moved(turn, "AB"[turn % 2]))
        mesh.wait_caught_up()
        mesh.wait_drained()
    assert shop.names() == {f"name {turn}": ORDERS - 30, "Bob": 30}
    mesh.assert_sound()


def test_a_view_that_is_being_filled_queues_too(desk: Mesh) -> None:
    desk.settings = desk.settings.model_copy(update={"fan_out_limit": 5})
    for turn in range(100, 140):
        desk.publish(TicketOpened(ticket_id=turn, client_id="C1", cost=Decimal(1)), turn)
    desk.project()
    seen: list[int] = []

    def progress(line: str) -> None:
        if line.startswith("computing"):
            desk.publish(ClientSaved(client_id="C1", name="renamed"), "C1")
            desk.publish(TicketMoved(ticket_id=100, client_id="C2"), 100)
            desk.wait_caught_up()
            seen.append(len(desk.fan_outs()))

    with desk.projecting():
        report = desk.deploy(catalog(ticket_list=True), progress=progress)
    assert changes(report) == {"ticket_list": "new"}
    assert seen == [1]
    assert desk.fan_outs() == []
    assert desk.rows("ticket_list")[101]["name"] == "renamed"
    desk.assert_sound()


def test_what_is_pending_is_left_out_of_the_comparison(shop: Shop) -> None:
    """Rows that serve and are still to be recomputed differ from new ones, and mean nothing."""
    shop.says(moved(0, "B"), moved(1, "B"), (CustomerSaved(customer_id="C", name="Cid"), "C"))
    shop.says(customer("A", "Anna"))
    draining = shop.drainer()
    draining.step()
    draining._release()
    mesh = shop.mesh
    proof = mesh.deploy(rebuild=["order_overview"], require_equal=True).proofs[0]
    assert (proof.equal, proof.rows, proof.pending) == (True, 2 + LIMIT, ORDERS - 2 - LIMIT)
    mesh.execute("UPDATE data.order_overview__2 SET customer_name = 'Nobody' WHERE order_id IN (0, 100)")
    shop.says(customer("A", "Aino"))
    with pytest.raises(DeployRefused, match=r"1 different, 0 missing, 0 unexpected, such as 0\."):
        mesh.deploy(rebuild=["order_overview"], require_equal=True)
    mesh.execute("UPDATE data.order_overview__2 SET customer_name = 'Bob' WHERE order_id = 0")
    shop.drainer().finish()
    proof = mesh.deploy(rebuild=["order_overview"], require_equal=True).proofs[0]
    assert (proof.equal, proof.rows, proof.pending) == (True, ORDERS, 0)
    mesh.assert_sound()


def test_a_version_that_is_pruned_takes_its_queue_with_it(shop: Shop) -> None:
    shop.mesh.deploy(rebuild=["order_overview"])
    shop.says(customer("A", "Anna"))
    assert len(shop.mesh.fan_outs("order_overview")) == 2, "the previous version is kept up too"
    with psycopg.connect(shop.mesh.database_url, autocommit=True) as connection:
        rows = versions.version_rows(connection)
        assert prune(connection, prunable(rows, idle(rows))) == []
    assert len(shop.mesh.fan_outs("order_overview")) == 1
    assert shop.mesh.query(
        "SELECT count(*) FROM mesh.fan_out WHERE version_id NOT IN (SELECT id FROM mesh.versions)"
    ) == [(0,)]
    shop.drainer().finish()
    assert shop.names() == {"Anna": ORDERS}
    shop.mesh.assert_sound()
