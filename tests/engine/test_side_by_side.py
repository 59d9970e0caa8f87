"""Versions side by side: filled while projectors go on, compared, swapped, kept up, swapped back, pruned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest

from mesh_core.engine.deploy import DeployReport
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.pruning import idle, orphans, prunable, prune
from mesh_core.engine.pruning import prune_all as prune_named
from mesh_core.engine.swapping import rollback
from mesh_core.log import Delivered, TopicPartition
from mesh_core.model import Catalog, Col, Entity, Event, Key, View, add, delete, upsert
from mesh_core.settings import Settings
from mesh_core.store import versions
from tests.engine.desk import ClientGone, ClientSaved, Ticket, TicketOpened, catalog, changes, relations, say
from tests.engine.events import Said, encoded
from tests.support.mesh import Mesh


def previous(mesh: Mesh) -> set[str]:
    return {name for (name,) in mesh.query("SELECT relation FROM mesh.versions WHERE state = 'previous'")}


def prune_all(mesh: Mesh) -> list[str]:
    with psycopg.connect(mesh.database_url, autocommit=True) as connection:
        rows = versions.version_rows(connection)
        return prune(connection, prunable(rows, idle(rows)))


def test_a_rollback_serves_what_was_kept_up(desk: Mesh) -> None:
    before = desk.rows("client_overview")
    desk.deploy(catalog(sums=True, with_city=True))
    assert previous(desk) == {"client_overview__1", "desk_client__1"}
    say(desk, range(20, 40))
    desk.project()
    after = desk.rows("client_overview")
    assert set(after["C1"]) == {"client_id", "name", "city", "saves", "tickets", "cost"}
    assert [row.name for row in rollback(desk.database_url)] == ["desk.client", "client_overview"]
    rows = desk.rows("client_overview")
    assert set(rows["C1"]) == {"client_id", "name", "tickets"}
    assert rows["C1"]["tickets"] == after["C1"]["tickets"] > before["C1"]["tickets"]
    desk.assert_sound()
    say(desk, range(40, 50))
    desk.project()
    rollback(desk.database_url)
    assert desk.rows("client_overview")["C1"]["cost"] > after["C1"]["cost"]
    desk.assert_sound()


def test_what_was_kept_up_is_swapped_back_by_a_deploy_too(desk: Mesh) -> None:
    tables = relations(desk)
    desk.deploy(catalog(sums=True))
    assert changes(desk.deploy(catalog())) == {"client_overview": "revived"}
    assert {name: oid for name, oid in relations(desk).items() if name in tables} == tables
    desk.assert_sound()


def test_only_one_deploy_can_be_taken_back(desk: Mesh) -> None:
    desk.deploy(catalog(sums=True))
    desk.deploy(catalog(sums=True, with_city=True))
    assert previous(desk) == {"client_overview__2", "desk_client__1"}
    assert "client_overview__1" not in relations(desk)
    desk.assert_sound()


def test_what_a_kept_view_reads_is_kept(desk: Mesh) -> None:
    """A view that becomes previous reads an entity version that became so one deploy before."""
    desk.deploy(catalog(ticket_list=True))
    desk.deploy(catalog(with_city=True))  # ticket_list goes on with the client of before
    assert "desk_client__1" in previous(desk)
    desk.deploy(catalog(with_city=True, ticket_list=True))
    assert previous(desk) == {"ticket_list__1"}
    assert desk.query("SELECT relation FROM mesh.versions WHERE state = 'kept'") == [("desk_client__1",)]
    say(desk, range(5))
    desk.project()
    rollback(desk.database_url)
    desk.assert_sound()
    assert prune_all(desk) == []
    desk.project()
    desk.assert_sound()


def test_pruning_leaves_what_serves(desk: Mesh) -> None:
    desk.deploy(catalog(sums=True, with_city=True))
    rows = desk.rows("client_overview")
    assert prune_all(desk) == []
    assert previous(desk) == set()
    assert not {"client_overview__1", "desk_client__1"} & set(relations(desk))
    assert desk.rows("client_overview") == rows
    with psycopg.connect(desk.database_url, autocommit=True) as connection:
        assert orphans(connection) == []
    with pytest.raises(DeployRefused, match="no previous version"):
        rollback(desk.database_url)
    say(desk, range(5))
    desk.project()
    desk.assert_sound()


def test_what_is_still_read_is_pruned_later(desk: Mesh) -> None:
    desk.deploy(catalog(sums=True))
    with psycopg.connect(desk.database_url) as reader:
        reader.execute("SELECT * FROM read.client_overview__1").fetchall()
        (left,) = prune_all(desk)
        assert "client_overview__1 is still being read" in left
    assert prune_all(desk) == []
    assert "client_overview__1" not in relations(desk)


def test_projectors_go_on_while_views_are_filled(desk: Mesh) -> None:
    """What is written between the snapshot and the swap, by a running projector, is in the new rows."""
    turns = iter(range(100, 10_000))

    def progress(line: str) -> None:
        if line.startswith(("computing", "comparing")):
            for turn in [next(turns) for _ in range(20)]:
                desk.publish(ClientSaved(client_id=f"C{turn % 7}", name=f"during {turn}"), f"C{turn % 7}")
                desk.publish(TicketOpened(ticket_id=turn, client_id=f"C{turn % 7}", cost=Decimal(turn)), turn)
            desk.wait_caught_up()

    with desk.projecting():
        for changed in (catalog(sums=True), catalog(with_city=True, ticket_list=True), catalog(tools=True)):
            assert desk.deploy(changed, progress=progress).changed
            desk.assert_sound()
    assert len(desk.rows("client_overview")) == 7
    desk.project()
    desk.assert_sound()


def test_deploys_under_constant_writes(desk: Mesh) -> None:
    stopping, turn = threading.Event(), 100
    reports: list[DeployReport] = []

    def deploys() -> None:
        some = [catalog(sums=True), catalog(with_city=True), catalog(ticket_list=True), catalog()]
        reports.extend(desk.deploy(changed) for changed in some)
        stopping.set()

    with desk.projecting(), desk.projecting():
        thread = threading.Thread(target=deploys, daemon=True)
        thread.start()
        while not stopping.is_set() and thread.is_alive():
            say(desk, range(turn, turn + 5))
            turn += 5
            stopping.wait(0.01)
        thread.join(60)
        desk.wait_caught_up()
    assert len(reports) == 4
    assert all(proof.equal for report in reports for proof in report.proofs), reports
    desk.assert_sound()


def test_equal_rows_can_be_required(desk: Mesh) -> None:
    report = desk.deploy(catalog(), rebuild=["desk.client"], require_equal=True)
    assert changes(report) == {"desk.client": "rebuilt", "client_overview": "changed"}
    assert [(proof.name, proof.rows, proof.equal) for proof in report.proofs] == [
        ("desk.client", 5, True),
        ("client_overview", 5, True),
    ]
    prune_all(desk)
    desk.execute("UPDATE data.client_overview__2 SET tickets = 77 WHERE client_id = 'C1'")
    before = relations(desk)
    with pytest.raises(
        DeployRefused, match="client_overview: 1 different, 0 missing, 0 unexpected, such as C1"
    ):
        desk.deploy(catalog(sums=True), require_equal=True)
    assert relations(desk) == before
    assert desk.query("SELECT DISTINCT state FROM mesh.versions") == [("live",)]
    (proof,) = desk.deploy(catalog(sums=True)).proofs
    assert (proof.different, proof.samples) == (1, [["C1"]])
    desk.assert_sound()


def test_contracts_of_two_versions_may_differ(desk: Mesh) -> None:
    """The version that is kept up reads events by its own contracts, whatever the new ones say."""

    class Saved(Event, type="desk.client.saved.v1"):
        client_id: str
        name: str
        mail: str

    class Mailed(Entity, service="desk", name="client"):
        client_id: Key[str]
        name: Col[str]
        mail: Col[str]
        folds = upsert(Saved), delete(ClientGone)

    view = View("client_overview", Mailed, client_id=Mailed.client_id, name=Mailed.name, mail=Mailed.mail)
    desk.deploy(Catalog.of(entities=[Mailed, Ticket], views=[view]))
    assert desk.rows("client_overview") == {}, "none of the old events has what the new contract asks"
    assert desk.outcomes("desk.events").dead_lettered == 20
    desk.publish(Saved(client_id="C9", name="Nine", mail="nine@example.org"), "C9")
    desk.publish(ClientSaved(client_id="C8", name="Eight"), "C8")
    desk.project()
    assert set(desk.rows("client_overview")) == {"C9"}
    assert desk.outcomes("desk.events").dead_lettered == 21
    desk.assert_sound()
    rollback(desk.database_url)
    assert {"C1", "C8", "C9"} <= set(desk.rows("client_overview"))
    assert desk.outcomes("desk.events").dead_lettered == 0
    desk.assert_sound()


class Mailed(Event, type="desk.client.saved.v1"):
    """What `ClientSaved` says, by a contract of later."""

    client_id: str
    mail: str


class Mail(Entity, service="desk"):
    client_id: Key[str]
    mail: Col[str]
    saves: Col[int]
    folds = (upsert(Mailed, saves=add(1, window=10_000)),)


class Saves(Entity, service="desk"):
    client_id: Key[str]
    name: Col[str]
    saves: Col[int]
    folds = (upsert(ClientSaved, saves=add(1, window=10_000)),)


class Both(Event, type="desk.client.saved.v1"):
    """What either contract takes."""

    client_id: str
    name: str
    mail: str


@pytest.fixture
def two(settings: Settings) -> Iterator[Mesh]:
    """Two entities that serve, and know one event type by different contracts: one is declared no more."""
    mesh = Mesh(settings, Catalog.of(entities=[Saves, Ticket], views=[]))
    mesh.deploy()
    mesh.deploy(Catalog.of(entities=[Mail], views=[]))
    yield mesh
    mesh.close()


def both(mesh: Mesh) -> list[tuple[str | None, str | None]]:
    """(name, mail) of each client, as its two entities have it."""
    return mesh.query(
        "SELECT name, mail FROM read.desk_saves FULL JOIN read.desk_mail USING (client_id) ORDER BY client_id"
    )


@pytest.mark.parametrize("action", ["discard", "edit"])
def test_a_decision_releases_a_letter_wherever_it_is_held(two: Mesh, action: str) -> None:
    letter = two.send("desk.events", b"C1", b"{")
    two.publish(Both(client_id="C1", name="One", mail="one@example.org"), "C1")
    two.project()
    assert two.outcomes("desk.events") == (2, 0, 0, 1, 1)
    assert [row["status"] for row in two.held()] == ["dead"] * 3 + ["parked"] * 2
    data = {"client_id": "C1", "name": "Old", "mail": "old@example.org"}
    _, value = encoded(Said("desk.events", "C1", "desk.client.saved.v1", data), event_id="edit", second=1)
    two.decide(letter, action, value if action == "edit" else None)
    two.project()
    assert two.held() == []
    assert both(two) == [("One", "one@example.org")]
    assert two.outcomes("desk.events")[1:] == ((1, 1, 0, 0) if action == "discard" else (2, 0, 0, 0))
    two.assert_sound()


def test_a_retry_leaves_a_letter_as_it_is_wherever_it_is_held(two: Mesh) -> None:
    letter = two.send("desk.events", b"C1", b"{")
    two.publish(Both(client_id="C1", name="One", mail="one@example.org"), "C1")
    two.project()
    two.decide(letter, "retry")
    two.project()
    assert [(row["status"], row["attempts"]) for row in two.held()] == [("dead", 2)] * 3 + [("parked", 1)] * 2
    assert two.outcomes("desk.events") == (2, 0, 0, 1, 1)
    two.assert_sound()


def test_a_record_counts_by_its_worst_outcome_whoever_reads_it(two: Mesh) -> None:
    """One takes what the other refuses, and what waits behind that."""
    two.publish(Both(client_id="C1", name="One", mail="one@example.org"), "C1")
    two.publish(ClientSaved(client_id="C1", name="Two"), "C1")
    two.publish(Mailed(client_id="C2", mail="two@example.org"), "C2")
    two.publish(Both(client_id="C1", name="Three", mail="three@example.org"), "C1")
    two.publish(TicketOpened(ticket_id=1, client_id="C1", cost=Decimal(1)), 1)
    two.project()
    assert both(two) == [("Three", "one@example.org"), (None, "two@example.org")]
    assert two.outcomes("desk.events") == (5, 2, 0, 2, 1)
    assert {(row["otherwise"], row["counted"]) for row in two.held()} == {
        ("applied", "dead_lettered"),
        ("applied", "parked"),
    }
    two.assert_sound()
    refused = [row for row in two.held("dead") if row["record_key"] == "C1"]
    letter = Delivered(TopicPartition("desk.events", refused[0]["partition"]), refused[0]["offset"])
    two.decide(letter, "discard")
    two.project()
    assert both(two) == [("Three", "three@example.org"), (None, "two@example.org")]
    assert two.outcomes("desk.events") == (5, 4, 0, 1, 0)
    two.assert_sound()


def test_readers_of_before_go_on_through_a_swap(desk: Mesh) -> None:
    """With a snapshot of before the swap, and with a statement that was prepared then."""
    named = "SELECT relation FROM mesh.versions WHERE name = 'client_overview' AND state = 'live'"
    prepared = "SELECT client_id, name, tickets FROM read.client_overview ORDER BY client_id"
    with (
        psycopg.connect(desk.database_url) as old,
        psycopg.connect(desk.database_url, autocommit=True, prepare_threshold=0) as other,
    ):
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        before = old.execute("SELECT count(*) FROM mesh.versions").fetchall()
        rows = other.execute(prepared).fetchall()
        desk.deploy(catalog(sums=True, with_city=True))
        assert old.execute("SELECT count(*) FROM mesh.versions").fetchall() == before
        ((relation,),) = old.execute(named).fetchall()
        assert len(old.execute(f'SELECT client_id, name, tickets FROM data."{relation}"').fetchall()) == 5
        assert other.execute(prepared).fetchall() == rows
        desk.deploy(catalog())
        assert other.execute(prepared).fetchall() == rows


def test_a_table_of_somebody_else_is_no_orphan(desk: Mesh) -> None:
    desk.execute("CREATE TABLE data.orders_backup (id int)")
    desk.deploy(catalog(sums=True))
    assert prune_all(desk) == []
    assert "orders_backup" in relations(desk)


def test_what_is_pruned_counts_no_more_as_held(desk: Mesh) -> None:
    """Its dead letters go with it, and a later build of the same name meets them once more."""
    desk.deploy(catalog(adding=True))
    assert desk.outcomes("desk.events") == (60, 40, 0, 20, 0), "its events lack a sequence"
    desk.deploy(catalog())
    prune_named(desk.database_url, desk.catalog, ["desk.count"])
    assert desk.held() == []
    assert desk.outcomes("desk.events") == (60, 60, 0, 0, 0)
    desk.assert_sound()
    desk.deploy(catalog(adding=True))
    assert desk.outcomes("desk.events") == (60, 40, 0, 20, 0)
    desk.assert_sound()


def test_what_is_pruned_counts_as_the_others_hold_it(desk: Mesh) -> None:
    bad = desk.send("desk.events", b"C1", b"{")
    desk.publish(TicketOpened(ticket_id=77, client_id="C1", cost=Decimal(1)), "C1")  # not its key
    desk.project()
    desk.deploy(catalog(adding=True))
    before = desk.outcomes("desk.events")
    desk.deploy(catalog())
    prune_named(desk.database_url, desk.catalog, ["desk.count"])
    assert desk.outcomes("desk.events") == (62, 60, 0, 2, 0) != before
    desk.decide(bad, "discard")
    desk.project()
    assert desk.outcomes("desk.events") == (62, 60, 1, 1, 0)
    desk.assert_sound()


def test_a_number_is_given_once(desk: Mesh) -> None:
    """What was rolled back and pruned may still be read, and clients may have cursors of it."""
    desk.deploy(catalog(sums=True))
    rollback(desk.database_url)
    with psycopg.connect(desk.database_url) as reader:
        reader.execute("SELECT * FROM data.client_overview__2").fetchall()
        (left,) = prune_all(desk)
        assert "client_overview__2 is still being read" in left
        desk.deploy(catalog(sums=True))
    assert desk.query("SELECT relation FROM mesh.versions WHERE name = 'client_overview' ORDER BY id") == [
        ("client_overview__1",),
        ("client_overview__3",),
    ]
    desk.assert_sound()


def test_a_projector_keeps_no_temporary_tables_of_plans_before(desk: Mesh) -> None:
    """Each commit empties all of a session's: with every deploy a projector would grow slower."""
    counts = []
    with desk.projecting():
        for turn in range(4):
            desk.deploy(rebuild=("desk.client",))
            say(desk, range(100 + turn, 101 + turn))
            desk.wait_caught_up()
            ((count,),) = desk.query(
                "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
            )
            counts.append(count)

    assert counts[0] > 0
    assert max(counts) <= 2 * counts[0], counts
    assert counts[3] == counts[2], counts
