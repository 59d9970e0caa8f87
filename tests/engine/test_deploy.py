"""Deploys: what differs is built beside what serves, and takes its place in one step."""

from __future__ import annotations

import threading
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from mesh_core.engine import reading, swapping
from mesh_core.engine.deploy import DeployReport, Topics, deploy
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.intake import Intake
from mesh_core.engine.pruning import prune_all
from mesh_core.log import Delivered, TopicPartition
from mesh_core.model import Catalog, Col, Entity, Event, Key, upsert
from mesh_core.settings import Settings
from mesh_core.store.tables import ENTRY
from tests.engine.desk import (
    ClientSaved,
    Ticket,
    TicketPriced,
    ToolBought,
    catalog,
    changes,
    relations,
    say,
)
from tests.support.mesh import Mesh, checkpoints_of, wait_for


def test_deploying_the_same_again_changes_nothing(desk: Mesh) -> None:
    before = relations(desk), desk.rows("client_overview")
    assert changes(desk.deploy(catalog())) == {}
    assert (relations(desk), desk.rows("client_overview")) == before


def test_documentation_rebuilds_nothing(desk: Mesh) -> None:
    before = relations(desk)
    assert changes(desk.deploy(catalog(doc="Now with a word about it."))) == {"client_overview": "annotated"}
    assert relations(desk) == before
    said = "SELECT presentation FROM mesh.versions WHERE kind = 'view' AND state = 'live'"
    assert desk.query(said) == [({"doc": "Now with a word about it."},)]
    assert changes(desk.deploy(catalog(doc="Now with a word about it."))) == {}
    # Together with a change it comes with the new version; a rollback brings back what was said then.
    changed = desk.deploy(catalog(sums=True, doc="Another."))
    assert {step.name: step.details for step in changed.steps if step.change == "changed"} == {
        "client_overview": ("column cost is new", "what is said of it")
    }
    assert desk.query(said) == [({"doc": "Another."},)]
    swapping.rollback(desk.database_url)
    assert desk.query(said) == [({"doc": "Now with a word about it."},)]


def test_a_changed_view_is_computed_from_entities_that_stay(desk: Mesh) -> None:
    before = relations(desk)
    assert changes(desk.deploy(catalog(sums=True))) == {"client_overview": "changed"}
    assert desk.rows("client_overview")["C1"] == {
        "client_id": "C1",
        "name": "name 16",
        "tickets": 7,
        "cost": Decimal("10.5"),
    }
    after = relations(desk)
    assert {name: after.get(name) for name in before if not name.startswith("client_overview")} == {
        name: oid for name, oid in before.items() if not name.startswith("client_overview")
    }
    desk.assert_sound()


def test_a_changed_entity_is_replayed_from_the_log(desk: Mesh) -> None:
    assert changes(desk.deploy(catalog(with_city=True))) == {
        "desk.client": "changed",
        "client_overview": "changed",
    }
    row = desk.rows("client_overview")["C1"]
    assert (row["city"], row["saves"], row["tickets"]) == ("Rome", 4, 7)
    assert desk.outcomes().consumed == 60, "a replay counts nothing twice"
    desk.assert_sound()


def test_deploys_while_events_flow(desk: Mesh) -> None:
    """A running projector goes on with each new plan, and no event is missed or doubled."""
    stopping = threading.Event()
    turns = iter(range(20, 100_000))
    count = 20

    def flow() -> None:
        nonlocal count
        while not stopping.wait(0.005):
            say(desk, [next(turns)])
            count += 1

    flowing = threading.Thread(target=flow, daemon=True)
    with desk.projecting():
        flowing.start()
        for changed in (
            catalog(sums=True),
            catalog(sums=True, ticket_list=True),
            catalog(sums=True, with_city=True, ticket_list=True),
            catalog(with_city=True, tools=True, ticket_list=True),
        ):
            at = desk.outcomes().consumed
            desk.deploy(changed)
            wait_for(lambda at=at: desk.outcomes().consumed > at + 30, what="going on")  # type: ignore[misc]
        desk.publish(ToolBought(tool_id=1, name="saw"), 1)
        stopping.set()
        flowing.join(30)
        desk.wait_caught_up()
    assert desk.rows("tool_list")[1]["name"] == "saw"
    assert len(desk.rows("ticket_list")) == count
    assert sum(row["saves"] for row in desk.rows("client_overview").values()) == count
    assert sum(row["tickets"] for row in desk.rows("client_overview").values()) == count
    desk.assert_sound()


def test_an_idle_projector_hears_of_new_topics(desk: Mesh) -> None:
    with desk.projecting():
        desk.wait_caught_up()
        desk.deploy(catalog(tools=True))
        desk.publish(ToolBought(tool_id=1, name="saw"), 1)
        desk.publisher.flush()
        wait_for(lambda: 1 in desk.rows("tool_list"), what="reading the new topic")


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("step", ["replaying", "computing"])
def test_an_interrupted_deploy_leaves_what_serves(desk: Mesh, step: str) -> None:
    before = relations(desk), desk.rows("client_overview")

    def progress(line: str) -> None:
        if line.startswith(step):
            raise PowerCut

    with pytest.raises(PowerCut):
        deploy(desk.database_url, catalog(with_city=True), desk.driver, Topics(3, 1), progress)
    assert desk.rows("client_overview") == before[1]
    say(desk, [20])
    desk.project()
    assert desk.rows("client_overview")["C0"]["name"] == "name 20"

    desk.deploy(catalog(with_city=True))
    assert desk.rows("client_overview")["C0"]["saves"] == 5
    assert desk.query("SELECT count(*) FROM mesh.versions WHERE state = 'building'") == [(0,)]
    assert set(relations(desk)) == {row[0] for row in desk.query("SELECT relation FROM mesh.versions")}
    desk.assert_sound()


def test_two_deploys_at_once_follow_one_another(settings: Settings) -> None:
    mesh = Mesh(settings, catalog())
    errors: list[BaseException] = []
    reports: list[DeployReport] = []

    def run() -> None:
        try:
            reports.append(mesh.deploy())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(report.changed for report in reports) == [False, False, True]
    mesh.close()


def test_a_rollback_waits_for_nobody(desk: Mesh) -> None:
    desk.deploy(catalog(with_city=True))
    refusals: list[str] = []

    def progress(line: str) -> None:
        if line.startswith("computing") and not refusals:
            with pytest.raises(DeployRefused) as refused:
                swapping.rollback(desk.database_url)
            refusals.append(str(refused.value))

    desk.deploy(rebuild=["client_overview"], progress=progress)
    assert "mesh deploy (pid " in refusals[0]
    state = "SELECT state, detail, plan -> 0 ->> 'change' FROM mesh.deploys ORDER BY id DESC LIMIT 1"
    assert desk.query(state) == [("done", None, "unchanged")]
    swapping.rollback(desk.database_url)
    assert desk.query(state) == [("done", "rolled back", "rolled back")]
    desk.assert_sound()


def test_an_index_is_a_change_of_the_view_alone(desk: Mesh) -> None:
    before = desk.rows("client_overview")
    desk.deploy(catalog(indexed=True))
    planned = desk.query("SELECT plan FROM mesh.deploys ORDER BY id DESC LIMIT 1")[0][0]
    (step,) = [step for step in planned if step["change"] != "unchanged"]
    assert (step["name"], step["details"]) == ("client_overview", ["index on name is new"])
    definition = (
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'client_overview__2' AND indexdef !~ 'UNIQUE'"
    )
    assert desk.query(definition)[0][0].endswith("(name, client_id)")
    assert desk.rows("client_overview") == before
    assert not desk.deploy(catalog(indexed=True)).changed
    desk.assert_sound()


def test_a_rebuild_deploys_no_change(desk: Mesh) -> None:
    before = relations(desk)
    changed = catalog(with_city=True, tools=True)
    with pytest.raises(DeployRefused, match=r"not deployed: desk\.client, shed\.tool, client_overview"):
        desk.deploy(changed, rebuild=["desk.ticket"], nothing_else=True)
    assert relations(desk) == before
    with desk.driver.admin() as admin:
        assert "shed.events" not in admin.describe(["desk.events", "shed.events"])


def test_a_deploy_that_is_interrupted_says_so(desk: Mesh) -> None:
    def progress(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.deploy(rebuild=["client_overview"], progress=progress)
    ended = desk.query("SELECT state, detail FROM mesh.deploys ORDER BY id DESC LIMIT 1")
    assert ended == [("interrupted", "KeyboardInterrupt")]


def test_dead_letters_of_a_replayed_entity_keep_their_decisions(desk: Mesh) -> None:
    desk.deploy(catalog(with_city=True))  # it adds, so a save does not say all of a client
    bad = desk.send("desk.events", b"C1", b"{")
    desk.publish(ClientSaved(client_id="C1", name="waits"), "C1")
    desk.project()
    assert desk.rows("client_overview")["C1"]["name"] == "name 16"
    desk.deploy(catalog())
    assert desk.rows("client_overview")["C1"]["name"] == "waits", "it supersedes what it says all of"
    desk.deploy(catalog(with_city=True))
    assert desk.rows("client_overview")["C1"]["name"] == "name 16", "it waits as it did"
    desk.decide(bad, "discard")
    desk.project()
    assert desk.rows("client_overview")["C1"]["name"] == "waits"
    desk.deploy(catalog())
    desk.deploy(catalog(with_city=True))
    assert desk.rows("client_overview")["C1"]["name"] == "waits", "and the next build knows"
    desk.assert_sound()


def test_a_build_without_its_history_is_refused(desk: Mesh) -> None:
    from confluent_kafka import TopicPartition as ForeignPartition
    from confluent_kafka.admin import AdminClient

    assert desk.settings.kafka_bootstrap_servers is not None
    admin = AdminClient({"bootstrap.servers": desk.settings.kafka_bootstrap_servers})
    for future in admin.delete_records([ForeignPartition("desk.events", 0, 2)]).values():
        future.result(10)
    before = desk.rows("client_overview")
    with pytest.raises(DeployRefused, match="no longer has its beginning"):
        desk.deploy(catalog(with_city=True))
    assert desk.rows("client_overview") == before
    changed = catalog(with_nickname=True)
    desk.deploy(changed, seed_from_live=True)
    assert {key: row | {"nickname": None} for key, row in before.items()} == desk.rows("client_overview")
    desk.publish(ClientSaved(client_id="C1", name="anew", nickname="Annie"), "C1")
    desk.project()
    assert desk.rows("client_overview")["C1"]["nickname"] == "Annie"
    desk.assert_sound()


def test_readers_see_one_version_or_the_other(desk: Mesh) -> None:
    """Whoever reads by the stable name, never half a build and never nothing."""
    seen: set[tuple[str, ...]] = set()
    wrong: list[object] = []
    stopping = threading.Event()

    def read() -> None:
        with psycopg.connect(desk.database_url, autocommit=True, prepare_threshold=None) as reader:
            while not stopping.is_set():
                cursor = reader.execute("SELECT * FROM read.client_overview")
                rows = cursor.fetchall()
                assert cursor.description is not None
                seen.add(tuple(column.name for column in cursor.description))
                if len(rows) != 5:
                    wrong.append(rows)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    for turn in range(4):
        desk.deploy(catalog(sums=turn % 2 == 0))
    stopping.set()
    reading.join(30)
    assert not wrong
    assert len(seen) == 2


def test_a_build_on_a_topic_made_anew_is_refused(desk: Mesh) -> None:
    desk.execute("UPDATE mesh.checkpoints SET topic_id = 'another' WHERE topic = 'desk.events'")
    before = desk.rows("client_overview")
    with pytest.raises(DeployRefused, match="was re-created"):
        desk.deploy(catalog(with_city=True))
    assert desk.rows("client_overview") == before


def test_a_build_does_not_wait_for_records_that_never_come(
    desk: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STALL_SECONDS", 1.0)
    partition = TopicPartition("desk.events", 0)
    end = checkpoints_of(desk)[partition]
    with desk.driver.consumer() as consumer:
        reader = reading.Reader(consumer, Intake([Ticket.model], []))
        reader.assign({partition: end})
        with pytest.raises(DeployRefused, match=rf"\[0\] is at {end} of {end + 3}"):
            reader.batches({partition: end}, {partition: end + 3})


def test_the_barrier_holds_up_every_live_checkpoint(desk: Mesh) -> None:
    """Also those of topics that only versions of an earlier catalog read."""
    desk.deploy(catalog(tools=True))
    desk.deploy(catalog(sums=True))

    def steps() -> None:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            desk.execute("SELECT FROM mesh.checkpoints WHERE topic = 'shed.events' FOR UPDATE NOWAIT")

    with psycopg.connect(desk.database_url, autocommit=True) as connection:
        swapping.barrier(connection, steps)


def test_entries_are_fed_by_every_live_topic(desk: Mesh) -> None:
    def fed(kind: str, name: str) -> set[str]:
        ((topics,),) = desk.query(
            "SELECT topics FROM mesh.versions WHERE kind = %s AND name = %s AND state = 'live'", kind, name
        )
        return set(topics)

    assert fed("entity", ENTRY) == {"desk.events", "mesh.events"}
    before = relations(desk)
    desk.deploy(catalog(tools=True, by_workflow=True))
    every = {"desk.events", "mesh.events", "shed.events"}
    assert fed("entity", ENTRY) == fed("view", "clients_of_workflow") == every
    desk.deploy(catalog(by_workflow=True))
    assert fed("entity", ENTRY) == every, "what is no longer declared goes on being read"
    assert {name: oid for name, oid in relations(desk).items() if name in before} == before

    workflow = uuid4()
    desk.publish(ToolBought(tool_id=1, name="saw"), 1, workflow=workflow)
    desk.project()
    desk.execute("UPDATE mesh.versions SET fingerprint = 'of before' WHERE name = 'mesh.workflow_entry'")
    assert changes(desk.deploy())[ENTRY] == "changed"
    assert [(row["entity"], row["key"]) for row in desk.rows("mesh_workflow_entry").values()] == [
        ("tool", "1")
    ]
    desk.assert_sound()


def test_entries_are_built_without_a_topic_that_is_gone_if_that_is_accepted(desk: Mesh) -> None:
    desk.deploy(catalog(tools=True, by_workflow=True))
    workflow = uuid4()
    desk.publish(ToolBought(tool_id=1, name="saw"), 1, workflow=workflow)
    desk.publish(ClientSaved(client_id="C1", name="One"), "C1", workflow=workflow)
    desk.project()
    desk.deploy(catalog(by_workflow=True))
    prune_all(desk.database_url, desk.catalog, ["shed.tool", "tool_list"])
    with desk.driver.admin() as admin:
        admin.delete_topic("shed.events")
        wait_for(lambda: "shed.events" not in admin.describe(["shed.events"]))

    def entries() -> list[str]:
        return sorted(row["key"] for row in desk.rows("mesh_workflow_entry").values())

    with pytest.raises(DeployRefused, match=r"shed\.events does not exist any more.*mesh\.workflow_entry"):
        desk.deploy(rebuild=[ENTRY])
    desk.deploy(rebuild=[ENTRY], seed_from_live=True)
    assert entries() == ["1", "C1"]
    said: list[str] = []
    desk.deploy(rebuild=[ENTRY], accept_truncated=True, progress=said.append)
    assert entries() == ["C1"]
    assert "leaving out shed.events, which does not exist any more" in said
    desk.deploy(rebuild=[ENTRY])
    assert entries() == ["C1"]
    fed = "SELECT DISTINCT topic FROM mesh.versions, unnest(topics) AS topic ORDER BY topic"
    assert desk.query(fed) == [("desk.events",), ("mesh.events",)]
    desk.publish(ClientSaved(client_id="C2", name="Two"), "C2", workflow=workflow)
    desk.project()
    assert entries() == ["C1", "C2"]
    desk.assert_sound()


def test_an_entry_does_not_depend_on_contracts(desk: Mesh) -> None:
    """An event that a contract refuses is of its workflow all the same, before and after the contract is widened."""

    class Told(Event, type="desk.client.saved.v1"):
        client_id: str
        name: str
        mail: str

    class Strict(Entity, service="desk", name="client"):
        client_id: Key[str]
        name: Col[str]
        folds = (upsert(Told),)

    class Later(Event, type="desk.client.saved.v2"):
        client_id: str

    desk.deploy(Catalog.of(entities=[Strict], views=[]))
    workflow = uuid4()
    desk.publish(ClientSaved(client_id="C8", name="Eight"), "C8", workflow=workflow)
    desk.publish(Later(client_id="C9"), "C9", workflow=workflow)
    desk.project()
    reasons = {row["record_key"]: row["reason"] for row in desk.held()}
    assert (reasons["C8"], reasons["C9"]) == ("missing_field", "unknown_version")
    for _ in range(2):
        entries = [(row["workflow_id"], row["key"]) for row in desk.rows("mesh_workflow_entry").values()]
        assert sorted(entries) == [(workflow, "C8"), (workflow, "C9")]
        assert desk.query("SELECT key FROM mesh.event_index ORDER BY key") == [("C8",), ("C9",)]
        desk.deploy(catalog())
    assert desk.rows("client_overview")["C8"]["name"] == "Eight"
    desk.deploy(rebuild=[ENTRY], require_equal=True)
    desk.assert_sound()


def test_a_view_that_is_declared_no_more_goes_on_with_the_entity_it_reads(desk: Mesh) -> None:
    desk.deploy(catalog(ticket_list=True))
    report = desk.deploy(catalog(with_city=True))
    assert changes(report)["ticket_list"] == "unused"
    desk.publish(ClientSaved(client_id="C1", name="again"), "C1")
    desk.project()
    assert {row["name"] for row in desk.rows_of("ticket_list") if row["name"].startswith("again")} == {
        "again"
    }
    desk.deploy(catalog(with_city=True, sums=True))
    desk.publish(ClientSaved(client_id="C1", name="and again"), "C1")
    desk.project()
    assert "and again" in {row["name"] for row in desk.rows_of("ticket_list")}
    desk.assert_sound()


def test_a_swap_that_is_held_up_names_who_does_it(desk: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swapping, "LOCK_TIMEOUT_MS", 200)
    monkeypatch.setattr(swapping, "ATTEMPTS", 2)
    before = relations(desk), desk.rows("client_overview")
    with psycopg.connect(desk.database_url, application_name="a slow report") as reader:
        reader.execute("SELECT * FROM read.client_overview").fetchall()
        with pytest.raises(DeployRefused, match="a slow report"):
            desk.deploy(catalog(sums=True))
    assert (relations(desk), desk.rows("client_overview")) == before
    assert changes(desk.deploy(catalog(sums=True))) == {"client_overview": "changed"}
    desk.assert_sound()


def test_views_of_others_survive_new_columns_and_refuse_that_columns_go(desk: Mesh) -> None:
    desk.execute("CREATE VIEW public.report AS SELECT name, tickets FROM read.client_overview")
    desk.deploy(catalog(sums=True))
    assert len(desk.query("SELECT * FROM public.report")) == 5
    with pytest.raises(DeployRefused, match=r"view report depends on view read\.client_overview"):
        desk.deploy(catalog())
    assert len(desk.query("SELECT * FROM public.report")) == 5
    desk.execute("DROP VIEW public.report")
    desk.deploy(catalog())
    desk.assert_sound()


def test_grants_survive_a_swap(desk: Mesh) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    desk.execute(f"CREATE ROLE {role}; GRANT SELECT ON read.client_overview TO {role}")
    may = f"SELECT has_table_privilege('{role}', 'read.client_overview', 'SELECT')"
    try:
        for changed in (catalog(sums=True), catalog()):
            desk.deploy(changed)
            assert desk.query(may) == [(True,)]
    finally:
        desk.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_counters_follow_what_versions_hold(desk: Mesh) -> None:
    """A new entity refuses what others took: the records count as held from then on, and can be released."""
    desk.deploy(catalog(adding=True))
    assert desk.outcomes() == (60, 40, 0, 20, 0), "its events lack a sequence"
    assert {row["counted"] for row in desk.held()} == {"dead_lettered"}
    desk.assert_sound()
    row = desk.held()[0]
    letter = Delivered(TopicPartition(row["topic"], row["partition"]), row["offset"])
    desk.decide(letter, "discard")
    desk.project()
    assert desk.outcomes("desk.events")[1:] == (41, 0, 19, 0)
    desk.assert_sound()
    desk.execute("UPDATE mesh.versions SET fingerprint = 'of before' WHERE name = 'desk.count'")
    desk.deploy()
    assert desk.outcomes("desk.events")[1:] == (41, 0, 19, 0), "a build honours the decision"
    desk.assert_sound()


def test_what_only_a_new_entity_can_read_and_refuses_stays_held(desk: Mesh) -> None:
    desk.publish(TicketPriced(ticket_id=1, cost=Decimal("2")), 2)  # the key of another
    desk.publish(TicketPriced(ticket_id=3, cost=Decimal("3")), 3)
    desk.project()
    assert desk.outcomes().ignored == 2
    desk.deploy(catalog(priced=True))
    assert [(row["reason"], row["counted"]) for row in desk.held()] == [("key_mismatch", "dead_lettered")]
    assert desk.rows("desk_price")[3]["cost"] == Decimal("3")
    desk.assert_sound()


def test_a_decision_in_the_midst_of_a_build_is_not_missed(desk: Mesh) -> None:
    bad = desk.send("desk.events", b"C1", b"{")
    desk.publish(ClientSaved(client_id="C1", name="waits"), "C1")
    desk.project()

    def progress(line: str) -> None:
        if line == "catching up":  # all history has been read by then
            desk.decide(bad, "discard")
            desk.project()

    desk.deploy(catalog(with_city=True, adding=True), progress=progress)
    assert desk.rows("client_overview")["C1"]["name"] == "waits"
    desk.assert_sound()
