"""Recomputes views from the entity tables and compares, all in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import IsolationLevel

from mesh_core.errors import UsageError
from mesh_core.store.connections import connect
from mesh_core.store.fan_out import queued
from mesh_core.store.tables import physical, quote
from mesh_core.store.versions import live_plan
from mesh_core.store.view_query import equal, view_select
from mesh_core.store.view_writes import ViewVersion

SAMPLES = 10


@dataclass(frozen=True)
class CheckResult:
    """How a view compares with its definition.

    `rows` as computed, and how many are missing from the view, should not be there, or have other values;
    `samples` are keys of some of these. `pending` are rows that the fan-out queue names, which are left out: they are
    still to be recomputed.
    """

    view: str
    rows: int
    missing: int
    unexpected: int
    different: int
    samples: Sequence[tuple[Any, ...]]
    pending: int = 0

    @property
    def clean(self) -> bool:
        """Whether the view equals its definition."""
        return not (self.missing or self.unexpected or self.different)


def check(database_url: str, names: Sequence[str] = ()) -> list[CheckResult]:
    """Compare the live views of these names, or all. Raises UsageError for a name that is not a live view."""
    with connect(database_url, "mesh check") as connection:
        connection.autocommit = False
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        plan = live_plan(connection)
        views = {view.model.name: view for view in plan.views if view.id in plan.live}
        if unknown := [name for name in names if name not in views]:
            raise UsageError(
                f"There is no live view {unknown[0]!r}.",
                remedy=f"There are: {', '.join(sorted(views)) or 'none'}.",
            )
        return [_compare(connection, views[name]) for name in names or sorted(views)]


def _compare(connection: psycopg.Connection[Any], view: ViewVersion) -> CheckResult:
    key = view.model.key
    values = [column.name for column in view.model.columns]
    differs = " OR ".join(f"d.{quote(name)} IS DISTINCT FROM v.{quote(name)}" for name in values)
    first = quote(key[0])
    pairs = f"({view_select(view.model, view.tables)}) d FULL JOIN {physical(view.relation)} v ON {equal('d', key, 'v', key)}"
    with connection.cursor() as cursor:
        nodes = {name for name, _, _ in queued(cursor, view.id)}
    waits, is_pending = "", "false"
    if nodes:
        waits = f"WITH pending AS MATERIALIZED (SELECT DISTINCT * FROM ({view.fan_out.pending(sorted(nodes))}) AS p) "
        same = " AND ".join(f"p.{quote(k)} = coalesce(d.{quote(k)}, v.{quote(k)})" for k in key)
        pairs += f" LEFT JOIN pending p ON {same}"
        is_pending = f"p.{first} IS NOT NULL"
    counts = [
        f"d.{first} IS NOT NULL",
        f"v.{first} IS NULL AND NOT {is_pending}",
        f"d.{first} IS NULL AND NOT {is_pending}",
        f"d.{first} IS NOT NULL AND v.{first} IS NOT NULL AND ({differs}) AND NOT {is_pending}",
        is_pending,
    ]
    row = connection.execute(
        f"{waits}SELECT {', '.join(f'count(*) FILTER (WHERE {each})' for each in counts)} FROM {pairs}"
    ).fetchone()
    assert row is not None
    rows, missing, unexpected, different, pending = row
    samples: Sequence[tuple[Any, ...]] = ()
    if missing or unexpected or different:
        shown = ", ".join(f"coalesce(d.{quote(name)}, v.{quote(name)})" for name in key)
        samples = connection.execute(
            f"{waits}SELECT {shown} FROM {pairs} WHERE ({differs}) AND NOT {is_pending} ORDER BY {shown} LIMIT {SAMPLES}"
        ).fetchall()
    return CheckResult(view.model.name, rows, missing, unexpected, different, samples, pending)
