"""Replays of the help desk: what is asked of them, what interrupts them, what they leave alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from mesh_core.engine.replay import Only, ReplayRefused, compare, write_file
from mesh_core.errors import UsageError
from mesh_core.log import TopicPartition
from mesh_core.log.moment import milliseconds
from tests.engine.desk import ClientSaved, TicketOpened, catalog, changes, say
from tests.engine.replay.replaying import left_behind, live, position_now, replaying, rows_at, rows_of
from tests.support.mesh import ROOT, Mesh, checkpoints_of, environment_of, wait_for


def test_a_position_gives_what_served_there(desk: Mesh) -> None:
    before, there = live(desk), position_now(desk)
    say(desk, range(20, 60))
    desk.project()
    assert live(desk) != before
    assert rows_at(desk, "client_overview", as_of=there) == before
    assert rows_at(desk, "client_overview") == live(desk)
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


def test_decisions_count_as_of_the_position_which_must_say_where_they_stand(desk: Mesh) -> None:
    opened = b'{"specversion":"1.0","id":"x","source":"/x","type":"desk.client.saved.v1","time":"2026-01-01T00:00:00Z",'
    bad = desk.send("desk.events", b"D1", b"{")
    desk.project()
    there, before = position_now(desk), live(desk)
    desk.decide(bad, "edit", opened + b'"subject":"D1","data":{"client_id":"D1","name":"edited"}}')
    desk.project()
    after = live(desk)
    assert after.keys() - before.keys() == {("D1",)}
    assert rows_at(desk, "client_overview", as_of=there) == before
    assert rows_at(desk, "client_overview", as_of=position_now(desk)) == after
    with pytest.raises(UsageError, match=r"decisions on 1 dead letters .* does not name mesh\.events"):
        rows_at(desk, "client_overview", as_of=there.restricted_to(["desk.events"]))
    assert left_behind(desk) == []


def test_numbers_of_many_digits_stay_exact_or_are_refused(desk: Mesh, tmp_path: Path) -> None:
    from pyarrow import parquet

    changed = desk.deploy(catalog(sums=True))
    assert changed.changed
    for number, cost in enumerate((Decimal("1e20"), Decimal("1e-20")), 900):
        desk.publish(TicketOpened(ticket_id=number, client_id="C1", cost=cost), number)
    desk.project()
    with replaying(desk, "client_overview") as found:
        write_file(found, tmp_path / "wide.parquet")
        with pytest.raises(ReplayRefused, match="more than 38 digits"):
            write_file(found, tmp_path / "wide.duckdb")
        write_file(found, tmp_path / "wide.csv")
    rows = {
        row["client_id"]: row["cost"] for row in parquet.read_table(tmp_path / "wide.parquet").to_pylist()
    }
    assert rows == {key: row["cost"] for (key,), row in live(desk).items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wide.csv", "wide.parquet"]


def test_times_are_utc_and_those_before_kafkas_are_before_everything(desk: Mesh) -> None:
    for early in (datetime(1900, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)):
        assert rows_at(desk, "client_overview", as_of=early) == {}
    assert milliseconds(datetime(1970, 1, 1, 0, 0, 1)) == 1000
    assert milliseconds(datetime(1970, 1, 1, 0, 0, 1, 500, UTC)) == 1001
