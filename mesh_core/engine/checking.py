"""Recomputes views from the entity tables and compares, all in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import IsolationLevel

from mesh_core.errors import UsageError
from mesh_core.store.connections import connect
from mesh_core.store.tables import physical, quote
from mesh_core.store.versions import live_plan
from mesh_core.store.view_query import equal, view_select
from mesh_core.store.view_writes import ViewVersion

SAMPLES = 10


@dataclass(frozen=True)
class CheckResult:
    """How a view compares with its definition.

    `rows` as computed, and how many are missing from the view, should not be there, or have other values;
    `samples` are keys of some of these.
    """

    view: str
    rows: int
    missing: int
    unexpected: int
    different: int
    samples: Sequence[tuple[Any, ...]]

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
    row = connection.execute(
        f"SELECT count(d.{first}), count(*) FILTER (WHERE v.{first} IS NULL), count(*) FILTER (WHERE d.{first} IS NULL), "
        f"count(*) FILTER (WHERE d.{first} IS NOT NULL AND v.{first} IS NOT NULL AND ({differs})) FROM {pairs}"
    ).fetchone()
    assert row is not None
    samples: Sequence[tuple[Any, ...]] = ()
    if any(row[1:]):
        shown = ", ".join(f"coalesce(d.{quote(name)}, v.{quote(name)})" for name in key)
        samples = connection.execute(
            f"SELECT {shown} FROM {pairs} WHERE {differs} ORDER BY {shown} LIMIT {SAMPLES}"
        ).fetchall()
    rows, missing, unexpected, different = row
    return CheckResult(view.model.name, rows, missing, unexpected, different, samples)
