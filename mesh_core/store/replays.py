"""Replays: private builds, under names and numbers of versions that no deploy gives.

Whoever replays has a session lock on the replay's number, so a row without one is of a replay that was interrupted. Of what
serves, and of the control rows of others, a replay neither writes nor locks anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from mesh_core.store.schemas import DATA
from mesh_core.store.tables import quote

LOCK = 0x7265706C  # "repl"; with the number of a replay, a session lock of who makes it
BEGINNING = 0x72657062  # "repb"; held by who looks what was interrupted, so that nobody else takes the same
VERSIONS = 1000
"""Numbers of versions that each replay has."""
State = Literal["copying", "applying", "computing"]


@dataclass(frozen=True)
class ReplayRow:
    """A row of mesh.replays."""

    id: int
    state: State

    def version_id(self, number: int) -> int:
        """The id of one of its versions; those of deploys are positive, and -1 to -999 are of trials."""
        assert 0 <= number < VERSIONS
        return -self.id * VERSIONS - number

    def relation(self, stem: str) -> str:
        """The table of one of its versions. No declared name has two underscores, so it is nobody else's."""
        return f"past__{self.id}__{stem}"

    @property
    def connection_name(self) -> str:
        """What Postgres knows its connections as."""
        return f"mesh replay {self.id}"


@contextmanager
def _beginning(connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.execute("SELECT pg_advisory_lock(%s, 0)", (BEGINNING,))
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, 0)", (BEGINNING,))


def begin(
    connection: psycopg.Connection[Any], view: str, asked: Mapping[str, Any], total: int
) -> tuple[ReplayRow, bool]:
    """A replay of this session's own, and whether it is one that was interrupted. Others of these are dropped."""
    with _beginning(connection):
        mine = _take_interrupted(connection, asked)
        resumed = mine is not None
        if mine is None:
            row = connection.execute(
                "INSERT INTO mesh.replays (view, asked, state, total) VALUES (%s, %s, 'copying', %s) RETURNING id",
                (view, Jsonb(asked), total),
            ).fetchone()
            assert row is not None
            mine = ReplayRow(int(row[0]), "copying")
            _try_lock(connection, mine.id)
        connection.execute("SELECT set_config('application_name', %s, false)", (mine.connection_name,))
        return mine, resumed


def sweep(connection: psycopg.Connection[Any]) -> list[str]:
    """Drop what replays left that were interrupted: the names of their views."""
    with _beginning(connection):
        return [view for row, view, _ in _interrupted(connection) if drop(connection, row)]


def interrupted(connection: psycopg.Connection[Any]) -> list[str]:
    """The names of views whose replays were interrupted."""
    with _beginning(connection):
        found = list(_interrupted(connection))
        for row, _, _ in found:
            _unlock(connection, row.id)
        return [view for _, view, _ in found]


def _take_interrupted(connection: psycopg.Connection[Any], asked: Mapping[str, Any]) -> ReplayRow | None:
    mine: ReplayRow | None = None
    for row, _, before in _interrupted(connection):
        if before == asked and mine is None:
            mine = row
            end_sessions(connection, row)
        else:
            drop(connection, row)
    return mine


def _interrupted(connection: psycopg.Connection[Any]) -> Iterator[tuple[ReplayRow, str, Any]]:
    """(replay, view, what was asked) of those that nobody makes, each locked by this session from now on."""
    rows = connection.execute("SELECT id, state, view, asked FROM mesh.replays ORDER BY id").fetchall()
    for id_, state, view, asked in rows:
        if _try_lock(connection, id_):
            yield ReplayRow(id_, state), view, asked


def _try_lock(connection: psycopg.Connection[Any], id_: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK, id_)).fetchone()
    return bool(row and row[0])


def _unlock(connection: psycopg.Connection[Any], id_: int) -> None:
    connection.execute("SELECT pg_advisory_unlock(%s, %s)", (LOCK, id_))


def set_state(connection: psycopg.Connection[Any], row: ReplayRow, state: State) -> None:
    """What it is at now."""
    connection.execute(
        "UPDATE mesh.replays SET state = %s, updated_at = clock_timestamp() WHERE id = %s", (state, row.id)
    )


def set_done(connection: psycopg.Connection[Any], row: ReplayRow, done: int) -> None:
    """So many events are read."""
    connection.execute(
        "UPDATE mesh.replays SET done = %s, updated_at = clock_timestamp() WHERE id = %s", (done, row.id)
    )


def size(connection: psycopg.Connection[Any], row: ReplayRow) -> int:
    """Bytes that its tables take on disk."""
    found = connection.execute(
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
        "WHERE relnamespace = %s::regnamespace AND relkind = 'r' AND relname ~ %s",
        (DATA, _pattern(row)),
    ).fetchone()
    assert found is not None
    return int(found[0])


def end_sessions(connection: psycopg.Connection[Any], row: ReplayRow) -> None:
    """End all that its processes do in Postgres."""
    connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s "
        "AND datname = current_database() AND pid <> pg_backend_pid()",
        (row.connection_name,),
    )


def drop(connection: psycopg.Connection[Any], row: ReplayRow) -> bool:
    """Drop all that it has in Postgres, its sessions included; True."""
    end_sessions(connection, row)
    with connection.transaction():
        clear(connection, row)
        connection.execute("DELETE FROM mesh.replays WHERE id = %s", (row.id,))
    return True


def clear(connection: psycopg.Connection[Any], row: ReplayRow) -> None:
    """Drop its tables, and what is remembered of its events."""
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r' AND relname ~ %s",
        (DATA, _pattern(row)),
    ).fetchall()
    for (name,) in tables:
        connection.execute(f"DROP TABLE {DATA}.{quote(name)}")
    ids = (row.version_id(VERSIONS - 1), row.version_id(0))
    connection.execute("DELETE FROM mesh.checkpoints WHERE build BETWEEN %s AND %s", ids)
    for table in ("held_events", "sequences", "recent_ids"):
        connection.execute(f"DELETE FROM mesh.{table} WHERE version_id BETWEEN %s AND %s", ids)


def _pattern(row: ReplayRow) -> str:
    return f"^(queue_|bulk_)?past__{row.id}__"
