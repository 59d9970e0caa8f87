"""Compares a version that is about to serve with the one that does, at one common position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import IsolationLevel

from mesh_core.store.connections import connect
from mesh_core.store.fan_out import queued
from mesh_core.store.tables import columns_sql, physical, quote
from mesh_core.store.versions import VersionRow, live_plan
from mesh_core.store.view_query import equal
from mesh_core.store.view_writes import ViewVersion

SAMPLES = 10


@dataclass(frozen=True)
class Proof:
    """How a new version compares with the live one over the columns that they share.

    `digest` is of the new one's rows: a sum of hashes, so their order does not matter. `missing`, `unexpected` and
    `different` count keys of the live one that the new one lacks, keys only it has, and keys with other values;
    `samples` are some of these. `pending` are keys that the fan-out queue names for either one: their rows are still to
    be recomputed, and are left out of all this. Where the keys are not the same columns, nothing can be compared: then
    `columns` is empty.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    digest: str
    missing: int = 0
    unexpected: int = 0
    different: int = 0
    samples: Sequence[Sequence[Any]] = ()
    pending: int = 0

    @property
    def equal(self) -> bool:
        """Whether all that can be compared is the same."""
        return not (self.missing or self.unexpected or self.different)


def prove(database_url: str, pairs: Sequence[tuple[VersionRow, VersionRow]]) -> list[Proof]:
    """Compare (live, new) versions in one snapshot. Both must be kept up, so that they stand at the same position."""
    if not pairs:
        return []
    with connect(database_url, "mesh deploy: proof") as connection:
        connection.autocommit = False
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        views = {view.id: view for view in live_plan(connection).views}
        return [_proof(connection, live, new, views) for live, new in pairs]


def _proof(
    connection: psycopg.Connection[Any], live: VersionRow, new: VersionRow, views: Mapping[int, ViewVersion]
) -> Proof:
    before, after = live.model, new.model
    types = {column.name: column.type.sql for column in before.columns}
    shared = tuple(column.name for column in after.columns if types.get(column.name) == column.type.sql)
    comparable = before.key == after.key and set(after.key) <= set(shared)
    if not comparable:
        rows, digest = _digest(connection, _rows(new, tuple(column.name for column in after.columns)))
        return Proof(new.name, (), rows, digest)
    pending = _list_pending(connection, [views[row.id] for row in (live, new) if row.id in views])
    olds, news = _rows(live, shared, but_pending=pending > 0), _rows(new, shared, but_pending=pending > 0)
    rows, digest = _digest(connection, news)
    if (rows, digest) == _digest(connection, olds):
        return Proof(new.name, shared, rows, digest, pending=pending)
    values = [name for name in shared if name not in after.key]
    differs = " OR ".join(f"n.{quote(name)} IS DISTINCT FROM o.{quote(name)}" for name in values) or "false"
    first = quote(after.key[0])
    pairs = f"({olds}) o FULL JOIN ({news}) n ON {equal('o', after.key, 'n', after.key)}"
    counted = connection.execute(
        f"SELECT count(*) FILTER (WHERE n.{first} IS NULL), count(*) FILTER (WHERE o.{first} IS NULL), "
        f"count(*) FILTER (WHERE o.{first} IS NOT NULL AND n.{first} IS NOT NULL AND ({differs})) FROM {pairs}"
    ).fetchone()
    assert counted is not None
    shown = ", ".join(f"coalesce(n.{quote(name)}, o.{quote(name)})" for name in after.key)
    samples = connection.execute(
        f"SELECT {shown} FROM {pairs} WHERE n.{first} IS NULL OR o.{first} IS NULL OR {differs} "
        f"ORDER BY {shown} LIMIT {SAMPLES}"
    ).fetchall()
    missing, unexpected, different = counted
    keys = [[str(part) for part in key] for key in samples]
    return Proof(new.name, shared, rows, digest, missing, unexpected, different, keys, pending)


def _list_pending(connection: psycopg.Connection[Any], views: Sequence[ViewVersion]) -> int:
    """Make a table of the keys that wait to be recomputed in any of these versions; how many there are."""
    with connection.cursor() as cursor:
        nodes = [(view, sorted({name for name, _, _ in queued(cursor, view.id)})) for view in views]
        waiting = " UNION ".join(f"({view.fan_out.pending(names)})" for view, names in nodes if names)
        if not waiting:
            return 0
        cursor.execute("DROP TABLE IF EXISTS pg_temp.pending")
        cursor.execute(f"CREATE TEMPORARY TABLE pending AS {waiting}")
        pending = cursor.rowcount
        cursor.execute("ANALYZE pg_temp.pending")
        return pending


def _rows(row: VersionRow, columns: tuple[str, ...], *, but_pending: bool = False) -> str:
    """SELECT of the rows of a version, perhaps but for those that are pending."""
    key = row.model.key
    left_out = f" WHERE NOT EXISTS (SELECT FROM pg_temp.pending p WHERE {equal('p', key, 't', key)})"
    return f"SELECT {columns_sql(columns)} FROM {physical(row.relation)} t{left_out if but_pending else ''}"


def _digest(connection: psycopg.Connection[Any], rows: str) -> tuple[int, str]:
    found = connection.execute(
        f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM ({rows}) AS t"
    ).fetchone()
    assert found is not None
    return int(found[0]), str(found[1])
