"""Replays that are interrupted or refused, of a help desk that nothing changes meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mesh_core.engine import building, bulk
from mesh_core.engine.pruning import prune_all
from mesh_core.engine.replay import Only, ReplayRefused, compare, declared_in, move_to_schema
from mesh_core.errors import DependencyUnavailable, UsageError
from mesh_core.log import TopicPartition
from mesh_core.log.position import Position
from mesh_core.model.errors import DeclarationError
from tests.engine.desk import catalog, say
from tests.engine.replay.replaying import left_behind, live, replaying, rows_at, rows_of
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_settings

CHANGED = """
from mesh_core.model import View, many
from tests.engine.desk import Ticket, client

Client = client()
tickets = many(Ticket.client_id, Client.client_id)
client_overview = View(
    "client_overview", Client, client_id=Client.client_id, name=Client.name, first=tickets.min(Ticket.ticket_id)
)
"""


@pytest.fixture(scope="module")
def still_desk(services: Services) -> Iterator[Mesh]:
    """The help desk, for tests that change nothing that serves."""
    with fresh_settings(services) as settings:
        mesh = Mesh(settings, catalog())
        mesh.deploy()
        say(mesh, range(20))
        mesh.project()
        yield mesh
        mesh.close()


def test_one_that_does_not_name_a_topic_or_that_the_log_has_not_is_refused(still_desk: Mesh) -> None:
    with pytest.raises(UsageError, match=r"does not name desk\.events, which feeds the view"):
        rows_at(still_desk, "client_overview", as_of=Position({}))
    partition = TopicPartition("desk.events", 0)
    with pytest.raises(UsageError, match=r"desk\.events\[0\] ends at \d+, before 99999"):
        rows_at(still_desk, "client_overview", as_of=Position({partition: 99_999}))
    with pytest.raises(UsageError, match=r"There is no partition desk\.events\[7\]"):
        rows_at(still_desk, "client_overview", as_of=Position({TopicPartition("desk.events", 7): 1}))
    with pytest.raises(UsageError, match=r"No view 'nothing' serves\. These do: .*client_overview"):
        rows_at(still_desk, "nothing")
    assert left_behind(still_desk) == []


def test_another_declaration_is_replayed_beside_the_one_that_serves(still_desk: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "changed.py"
    file.write_text(CHANGED, encoding="utf-8")
    with psycopg.connect(still_desk.database_url, autocommit=True) as connection:
        changed = declared_in(connection, file, "client_overview")
        with pytest.raises(UsageError, match=r"declares no view 'x'\. It declares client_overview"):
            declared_in(connection, file, "x")
    with replaying(still_desk, "client_overview", changed) as found:
        rows, difference = rows_of(found), compare(found)
    assert rows.keys() == live(still_desk).keys()
    assert all("first" in row for row in rows.values())
    assert difference.equal
    assert difference.compared == ["client_id", "name"]
    file.write_text("import nothing_of_the_kind\n", encoding="utf-8")
    with (
        psycopg.connect(still_desk.database_url) as connection,
        pytest.raises(DeclarationError, match=r"changed\.py"),
    ):
        declared_in(connection, file, "client_overview")


def test_a_schema_of_ones_own_is_replaced_by_the_next_and_by_nobody_else(still_desk: Mesh) -> None:
    for _ in range(2):
        with replaying(still_desk, "client_overview") as found:
            assert move_to_schema(found, "lab") == "lab.client_overview"
    assert still_desk.query("SELECT count(*) FROM lab.client_overview") == [(len(live(still_desk)),)]
    assert still_desk.query(
        "SELECT obj_description('lab.client_overview'::regclass) LIKE 'replayed by Flexmesh: client_overview as of {%%'"
    ) == [(True,)]
    still_desk.execute("DROP TABLE lab.client_overview; CREATE TABLE lab.client_overview (mine int)")
    with (
        pytest.raises(ReplayRefused, match="no replay made it"),
        replaying(still_desk, "client_overview") as found,
    ):
        move_to_schema(found, "lab")
    for name in ("data", "public", "pg_x", "Lab"):
        with pytest.raises(UsageError), replaying(still_desk, "client_overview") as found:
            move_to_schema(found, name)
    still_desk.execute("DROP TABLE lab.client_overview")
    with replaying(still_desk, "client_overview") as found:
        assert found.resumed, "what was made waits for a place that can have it"
        move_to_schema(found, "lab")
    still_desk.execute("CREATE VIEW lab.mine AS SELECT * FROM lab.client_overview")
    with (
        pytest.raises(ReplayRefused, match=r"read by what is not of the mesh: view lab\.mine"),
        replaying(still_desk, "client_overview") as found,
    ):
        move_to_schema(found, "lab")
    rows_at(still_desk, "client_overview")
    assert left_behind(still_desk) == []


def test_what_takes_more_disk_than_it_may_is_ended(still_desk: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    from mesh_core.engine import progress

    monkeypatch.setattr(progress, "SECONDS", 0.01)
    monkeypatch.setattr(bulk, "_size", lambda folding: time.sleep(0.05) or 0)
    with pytest.raises(ReplayRefused, match="took more than 8,192 bytes of disk"):
        rows_at(still_desk, "client_overview", disk=8192)
    assert left_behind(still_desk) == []


# ---- interrupted


class Cut(BaseException):
    """As a killed process would: nothing is cleared up."""


def interrupted(desk: Mesh, monkeypatch: pytest.MonkeyPatch, windows: int) -> None:
    """Begin a replay that ends after some windows."""
    asked = 0

    def size(folding: Any) -> int:
        """Each window is as much as a poll gives."""
        nonlocal asked
        asked += 1
        if asked > 2 * windows:
            raise Cut
        return 0 if asked % 2 else bulk.WINDOW_ROWS

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_size", size)
        patch.setattr("mesh_core.engine.reading.POLL_RECORDS", 5)
        with pytest.raises(Cut):
            rows_at(desk, "client_overview")
    read = desk.query("SELECT sum(next_offset) FROM mesh.checkpoints WHERE build < 0")
    assert (int(read[0][0]) > 0) == (windows > 0)
    assert desk.query(
        "SELECT DISTINCT relpersistence::text FROM pg_class WHERE relname ~ 'past__' AND relkind = 'r'"
    ) == [("p",)], "a crash of Postgres would empty it, but not the checkpoints"


@pytest.mark.parametrize("windows", [0, 1, 2, 5])
def test_it_goes_on_where_it_was_interrupted(
    still_desk: Mesh, monkeypatch: pytest.MonkeyPatch, windows: int
) -> None:
    interrupted(still_desk, monkeypatch, windows)
    assert left_behind(still_desk) != []
    with replaying(still_desk, "client_overview") as found:
        assert found.resumed
        assert rows_of(found) == live(still_desk)
    assert left_behind(still_desk) == []


def test_it_goes_on_after_all_was_read(still_desk: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise Cut

    for target in ("mesh_core.engine.building.finish", "mesh_core.store.tables.add_key"):
        with monkeypatch.context() as patch:
            patch.setattr(target, fails)
            with pytest.raises(Cut):
                rows_at(still_desk, "client_overview")
    with replaying(still_desk, "client_overview") as found:
        assert found.resumed
        assert rows_of(found) == live(still_desk)
    assert left_behind(still_desk) == []


def test_whoever_asks_for_something_else_drops_it_and_so_does_prune(
    still_desk: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(still_desk, monkeypatch, 1)
    assert rows_at(still_desk, "client_overview", only=Only(("C1",))).keys() <= {("C1",)}
    assert left_behind(still_desk) == []
    interrupted(still_desk, monkeypatch, 1)
    assert prune_all(still_desk.database_url, still_desk.catalog, dry_run=True).replays == ["client_overview"]
    assert prune_all(still_desk.database_url, still_desk.catalog).replays == ["client_overview"]
    assert left_behind(still_desk) == []


def test_what_cannot_be_copied_is_applied_batch_by_batch(
    still_desk: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise psycopg.errors.NumericValueOutOfRange("as if one record had passed all checks, and did not fit")

    monkeypatch.setattr(building, "fill", fill)
    assert rows_at(still_desk, "client_overview") == live(still_desk)
    assert left_behind(still_desk) == []


def test_postgres_that_fails_meanwhile_is_said_and_gone_on_from(
    still_desk: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(folding: Any) -> int:
        still_desk.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'mesh replay %' "
            "AND datname = current_database()"
        )
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_size", size)
        patch.setattr("mesh_core.engine.reading.POLL_RECORDS", 5)
        with pytest.raises(DependencyUnavailable, match="it goes on where it was"):
            rows_at(still_desk, "client_overview")
    assert rows_at(still_desk, "client_overview") == live(still_desk)
    assert left_behind(still_desk) == []
