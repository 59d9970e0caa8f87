"""Replays of the help desk: what is asked of them, what interrupts them, what they leave alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from mesh_core.engine import building, bulk
from mesh_core.engine.pruning import prune_all
from mesh_core.engine.replay import Only, ReplayRefused, compare, declared_in, move_to_schema
from mesh_core.errors import DependencyUnavailable, UsageError
from mesh_core.log import TopicPartition
from mesh_core.log.position import Position
from mesh_core.model.errors import DeclarationError
from tests.engine.desk import ClientSaved, changes, say
from tests.engine.replay.replaying import left_behind, replaying, rows_at, rows_of
from tests.support.mesh import ROOT, Mesh, checkpoints_of, environment_of, wait_for

CHANGED = """
from mesh_core.model import View, many
from tests.engine.desk import Ticket, client

Client = client()
tickets = many(Ticket.client_id, Client.client_id)
client_overview = View(
    "client_overview", Client, client_id=Client.client_id, name=Client.name, first=tickets.min(Ticket.ticket_id)
)
"""


def live(mesh: Mesh) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {(key,): row for key, row in mesh.rows("client_overview").items()}


def position_now(mesh: Mesh) -> Position:
    return Position(checkpoints_of(mesh))


def test_a_position_gives_what_served_there(desk: Mesh) -> None:
    before, there = live(desk), position_now(desk)
    say(desk, range(20, 60))
    desk.project()
    assert live(desk) != before
    assert rows_at(desk, "client_overview", as_of=there) == before
    assert rows_at(desk, "client_overview") == live(desk)
    assert left_behind(desk) == []


def test_one_that_does_not_name_a_topic_or_that_the_log_has_not_is_refused(desk: Mesh) -> None:
    with pytest.raises(UsageError, match=r"does not name desk\.events, which feeds the view"):
        rows_at(desk, "client_overview", as_of=Position({}))
    partition = TopicPartition("desk.events", 0)
    with pytest.raises(UsageError, match=r"desk\.events\[0\] ends at \d+, before 99999"):
        rows_at(desk, "client_overview", as_of=Position({partition: 99_999}))
    with pytest.raises(UsageError, match=r"There is no partition desk\.events\[7\]"):
        rows_at(desk, "client_overview", as_of=Position({TopicPartition("desk.events", 7): 1}))
    with pytest.raises(UsageError, match=r"No view 'nothing' serves\. These do: .*client_overview"):
        rows_at(desk, "nothing")
    assert left_behind(desk) == []


def test_only_some_rows_by_key_and_by_workflow(desk: Mesh) -> None:
    keys = sorted(live(desk))
    (first,), (second,) = keys[:2]
    assert sorted(rows_at(desk, "client_overview", only=Only((first, second, first)))) == [
        (first,),
        (second,),
    ]
    assert rows_at(desk, "client_overview", only=Only(("nobody",))) == {}
    workflow = uuid4()
    desk.publish(ClientSaved(client_id=second, name="tied"), second, workflow=workflow)
    desk.project()
    assert rows_at(desk, "client_overview", only=Only(workflow=workflow)) == {(second,): live(desk)[second,]}
    assert rows_at(desk, "client_overview", only=Only(workflow=uuid4())) == {}
    with pytest.raises(UsageError, match="no rows that could be replayed alone"):
        Only.parse(["colour=red"])
    assert Only.parse(["key=a", "key=b", f"workflow={UUID(int=1)}"]) == Only(("a", "b"), UUID(int=1))


def test_another_declaration_is_replayed_beside_the_one_that_serves(desk: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "changed.py"
    file.write_text(CHANGED, encoding="utf-8")
    with psycopg.connect(desk.database_url, autocommit=True) as connection:
        changed = declared_in(connection, file, "client_overview")
        with pytest.raises(UsageError, match=r"declares no view 'x'\. It declares client_overview"):
            declared_in(connection, file, "x")
    with replaying(desk, "client_overview", changed) as found:
        rows, difference = rows_of(found), compare(found)
    assert rows.keys() == live(desk).keys()
    assert all("first" in row for row in rows.values())
    assert difference.equal
    assert difference.compared == ["client_id", "name"]
    file.write_text("import nothing_of_the_kind\n", encoding="utf-8")
    with (
        psycopg.connect(desk.database_url) as connection,
        pytest.raises(DeclarationError, match=r"changed\.py"),
    ):
        declared_in(connection, file, "client_overview")


def test_a_difference_names_rows_and_columns(desk: Mesh) -> None:
    there, before = position_now(desk), live(desk)
    (first,) = sorted(before)[0]
    desk.publish(ClientSaved(client_id=first, name="renamed"), first)
    desk.publish(ClientSaved(client_id="new", name="new"), "new")
    desk.project()
    with replaying(desk, "client_overview", as_of=there) as found:
        difference = compare(found)
    assert (difference.added, difference.removed, difference.changed) == (0, 1, 1)
    assert {column for column, count in difference.columns.items() if count} == {"name"}
    changed = next(sample for sample in difference.samples if sample["change"] == "changed")
    assert changed["key"] == [first]
    assert changed["columns"] == {"name": {"live": "renamed", "replay": before[first,]["name"]}}
    with replaying(desk, "client_overview", as_of=there, only=Only(("new",))) as found:
        alone = compare(found)
    assert (alone.rows, alone.removed, alone.changed) == (0, 1, 0)


def test_a_schema_of_ones_own_is_replaced_by_the_next_and_by_nobody_else(desk: Mesh) -> None:
    for _ in range(2):
        with replaying(desk, "client_overview") as found:
            assert move_to_schema(found, "lab") == "lab.client_overview"
    assert desk.query("SELECT count(*) FROM lab.client_overview") == [(len(live(desk)),)]
    assert desk.query(
        "SELECT obj_description('lab.client_overview'::regclass) LIKE 'replayed by Flexmesh: client_overview as of {%%'"
    ) == [(True,)]
    desk.execute("DROP TABLE lab.client_overview; CREATE TABLE lab.client_overview (mine int)")
    with pytest.raises(ReplayRefused, match="no replay made it"), replaying(desk, "client_overview") as found:
        move_to_schema(found, "lab")
    for name in ("data", "public", "pg_x", "Lab"):
        with pytest.raises(UsageError), replaying(desk, "client_overview") as found:
            move_to_schema(found, name)
    assert left_behind(desk) == []


def test_what_takes_more_disk_than_it_may_is_ended(desk: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    from mesh_core.engine import progress

    monkeypatch.setattr(progress, "SECONDS", 0.01)
    monkeypatch.setattr(bulk, "_size", lambda folding: time.sleep(0.05) or 0)
    with pytest.raises(ReplayRefused, match="took more than 8,192 bytes of disk"):
        rows_at(desk, "client_overview", disk=8192)
    assert left_behind(desk) == []


def test_a_log_without_its_beginning_is_replayed_only_if_that_is_accepted(desk: Mesh) -> None:
    from confluent_kafka import TopicPartition as ForeignPartition
    from confluent_kafka.admin import AdminClient

    assert desk.settings.kafka_bootstrap_servers is not None
    partition = next(at for at, offset in checkpoints_of(desk).items() if offset > 2)
    admin = AdminClient({"bootstrap.servers": desk.settings.kafka_bootstrap_servers})
    for future in admin.delete_records([ForeignPartition(*_parts(partition), 2)]).values():
        future.result(10)
    with pytest.raises(ReplayRefused, match=r"starts at 2\), so rows would be missing"):
        rows_at(desk, "client_overview")
    rows_at(desk, "client_overview", accept_truncated=True)
    assert left_behind(desk) == []


def _parts(partition: TopicPartition) -> tuple[str, int]:
    return partition.topic, partition.partition


# ---- interrupted


class Cut(BaseException):
    """As a killed process would: nothing is cleared up."""


def interrupted(desk: Mesh, monkeypatch: pytest.MonkeyPatch, windows: int) -> None:
    """Begin a replay that ends after some windows."""
    done = 0

    def size(folding: Any) -> int:
        nonlocal done
        done += 1
        if done > windows:
            raise Cut
        return bulk.WINDOW_ROWS

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_size", size)
        patch.setattr("mesh_core.engine.reading.POLL_RECORDS", 5)
        with pytest.raises(Cut):
            rows_at(desk, "client_overview")


@pytest.mark.parametrize("windows", [0, 1, 2, 5])
def test_it_goes_on_where_it_was_interrupted(
    desk: Mesh, monkeypatch: pytest.MonkeyPatch, windows: int
) -> None:
    interrupted(desk, monkeypatch, windows)
    assert left_behind(desk) != []
    with replaying(desk, "client_overview") as found:
        assert found.resumed
        assert rows_of(found) == live(desk)
    assert left_behind(desk) == []


def test_it_goes_on_after_all_was_read(desk: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise Cut

    for target in ("mesh_core.engine.building.finish", "mesh_core.store.tables.add_key"):
        with monkeypatch.context() as patch:
            patch.setattr(target, fails)
            with pytest.raises(Cut):
                rows_at(desk, "client_overview")
    with replaying(desk, "client_overview") as found:
        assert found.resumed
        assert rows_of(found) == live(desk)
    assert left_behind(desk) == []


def test_whoever_asks_for_something_else_drops_it_and_so_does_prune(
    desk: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(desk, monkeypatch, 1)
    assert rows_at(desk, "client_overview", only=Only(("C1",))).keys() <= {("C1",)}
    assert left_behind(desk) == []
    interrupted(desk, monkeypatch, 1)
    assert prune_all(desk.database_url, desk.catalog, dry_run=True).replays == ["client_overview"]
    assert prune_all(desk.database_url, desk.catalog).replays == ["client_overview"]
    assert left_behind(desk) == []


def test_what_cannot_be_copied_is_applied_batch_by_batch(desk: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise psycopg.errors.NumericValueOutOfRange("as if one record had passed all checks, and did not fit")

    monkeypatch.setattr(building, "fill", fill)
    assert rows_at(desk, "client_overview") == live(desk)
    assert left_behind(desk) == []


def test_postgres_that_fails_meanwhile_is_said_and_gone_on_from(
    desk: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(folding: Any) -> int:
        desk.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'mesh replay %' "
            "AND datname = current_database()"
        )
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_size", size)
        patch.setattr("mesh_core.engine.reading.POLL_RECORDS", 5)
        with pytest.raises(DependencyUnavailable, match="it goes on where it was"):
            rows_at(desk, "client_overview")
    assert rows_at(desk, "client_overview") == live(desk)
    assert left_behind(desk) == []


def command(mesh: Mesh, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "mesh_core.cli", "replay", "client_overview", *arguments]


def test_killed_by_the_system_it_touches_nothing_live_and_leaves_nothing(desk: Mesh, tmp_path: Path) -> None:
    environment = environment_of(desk.settings) | {"MESH_LOG_LEVEL": "warning"}
    say(desk, range(20, 3000))
    desk.project()
    before, versions = live(desk), desk.query("SELECT id, state, relation FROM mesh.versions ORDER BY id")
    target = tmp_path / "clients.csv"
    for number in range(2):
        process = subprocess.Popen(command(desk, "--to", str(target)), cwd=ROOT, env=environment)
        wait_for(lambda: bool(desk.query("SELECT id FROM mesh.replays")))
        time.sleep(0.05 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert live(desk) == before
    done = subprocess.run(
        command(desk, "--to", str(target)), cwd=ROOT, env=environment, check=True, capture_output=True
    )
    assert b"rows of" in done.stdout
    assert len(target.read_text(encoding="utf-8").splitlines()) == len(before) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["clients.csv"]
    assert left_behind(desk) == []
    assert desk.query("SELECT id, state, relation FROM mesh.versions ORDER BY id") == versions
    desk.assert_sound()


def test_projectors_deploys_and_other_replays_go_on_meanwhile(desk: Mesh) -> None:
    there, before = position_now(desk), live(desk)
    results: list[Any] = []

    def once() -> None:
        results.append(rows_at(desk, "client_overview", as_of=there))

    with desk.projecting(), replaying(desk, "client_overview", as_of=there) as found:
        threads = [threading.Thread(target=once) for _ in range(2)]
        for thread in threads:
            thread.start()
        say(desk, range(20, 40))
        desk.wait_caught_up()
        assert changes(desk.deploy(rebuild=["client_overview"])) != {}
        for thread in threads:
            thread.join(60)
        assert rows_of(found) == before
    assert results == [before, before]
    assert live(desk) != before
    assert left_behind(desk) == []
    desk.assert_sound()
