"""Compares what was replayed with what serves, in one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.rows import dict_row

from mesh_core.engine.replay.errors import ReplayRefused
from mesh_core.engine.replay.making import Replayed
from mesh_core.model.view_model import ViewModel
from mesh_core.store.tables import columns_sql, physical, quote
from mesh_core.store.versions import VersionRow, version_rows
from mesh_core.store.view_query import equal

SAMPLES = 10


@dataclass(frozen=True)
class Difference:
    """How replayed rows differ from those that serve, over the columns that both have.

    `added` counts rows that only the replay has, `removed` rows that only what serves has, `changed` those that both have with
    other values; `columns` counts changed rows by column. `samples` are some of them, each
    `{"key": [...], "change": "added"|"removed"|"changed", "columns": {name: {"live": …, "replay": …}}}`.
    """

    live: str
    compared: Sequence[str]
    rows: int
    added: int
    removed: int
    changed: int
    columns: Mapping[str, int]
    samples: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "equal": self.equal}

    @property
    def equal(self) -> bool:
        """Whether there is none."""
        return not (self.added or self.removed or self.changed)


def compare(replayed: Replayed, samples: int = SAMPLES) -> Difference:
    """How a replay differs from what serves when this is asked, in one snapshot.

    Raises ReplayRefused where nothing serves that it could be compared with.
    """
    with replayed.connection.transaction():
        replayed.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = version_rows(replayed.connection, "live")
        live = next((row for row in rows if (row.kind, row.name) == ("view", replayed.view.name)), None)
        check_comparable(replayed.view, live)
        assert live is not None
        return _compared(replayed, live, samples)


def check_comparable(view: ViewModel, live: VersionRow | None) -> None:
    """See that a view can be compared with the version that serves. Raises ReplayRefused."""
    if live is None:
        raise ReplayRefused(
            f"No view {view.name} serves that this could be compared with.", remedy="Leave --diff out."
        )
    if live.model.key != view.key:
        raise ReplayRefused(
            f"The key of {view.name} is {', '.join(live.model.key)} where it serves, not {', '.join(view.key)}.",
            remedy="Leave --diff out: rows of other keys cannot be compared.",
        )


def _compared(replayed: Replayed, live: VersionRow, samples: int) -> Difference:
    before, view = live.model, replayed.view
    types = {column.name: column.type.sql for column in before.columns}
    shared = [column.name for column in view.columns if types.get(column.name) == column.type.sql]
    values = [name for name in shared if name not in view.key]
    first = quote(view.key[0])
    theirs = f"SELECT {columns_sql(shared)} FROM {physical(live.relation)} t"
    if replayed.wanted is not None:
        theirs += (
            f" WHERE EXISTS (SELECT FROM {replayed.wanted} w WHERE {equal('w', view.key, 't', view.key)})"
        )
    ours = f"SELECT {columns_sql(shared)} FROM {physical(replayed.relation)}"
    pairs = f"({theirs}) o FULL JOIN ({ours}) n ON {equal('o', view.key, 'n', view.key)}"
    both = f"o.{first} IS NOT NULL AND n.{first} IS NOT NULL"
    differs = {name: f"n.{quote(name)} IS DISTINCT FROM o.{quote(name)}" for name in values}
    any_differs = f"({' OR '.join(differs.values()) or 'false'})"
    counts = ", ".join(f"count(*) FILTER (WHERE {both} AND {each})" for each in differs.values())
    connection = replayed.connection
    row = connection.execute(
        f"SELECT count(n.{first}), count(*) FILTER (WHERE o.{first} IS NULL), count(*) FILTER (WHERE n.{first} IS NULL), "
        f"count(*) FILTER (WHERE {both} AND {any_differs}){', ' if counts else ''}{counts} FROM {pairs}"
    ).fetchone()
    assert row is not None
    rows, added, removed, changed, *by_column = row
    with connection.cursor(row_factory=dict_row) as cursor:
        key = [f"coalesce(n.{quote(name)}, o.{quote(name)})" for name in view.key]
        asked = [f"{part}::text AS {quote(f'key {n}')}" for n, part in enumerate(key)]
        asked += [f"n.{first} IS NOT NULL AS ours", f"o.{first} IS NOT NULL AS theirs"]
        for name in values:
            asked.append(f"o.{quote(name)} AS {quote(f'live {name}')}")
            asked.append(f"n.{quote(name)} AS {quote(f'replay {name}')}")
        found = cursor.execute(
            f"SELECT {', '.join(asked)} FROM {pairs} "
            f"WHERE o.{first} IS NULL OR n.{first} IS NULL OR {any_differs} ORDER BY {', '.join(key)} LIMIT %s",
            (samples,),
        ).fetchall()
    return Difference(
        live.relation,
        shared,
        rows,
        added,
        removed,
        changed,
        dict(zip(values, by_column, strict=True)),
        [_sample(each, len(view.key), values) for each in found],
    )


def _sample(row: Mapping[str, Any], parts: int, values: Sequence[str]) -> Mapping[str, Any]:
    change = "changed" if row["ours"] and row["theirs"] else "added" if row["ours"] else "removed"
    columns = {name: {"live": row[f"live {name}"], "replay": row[f"replay {name}"]} for name in values}
    if change == "changed":
        columns = {name: pair for name, pair in columns.items() if pair["live"] != pair["replay"]}
    return {"key": [row[f"key {n}"] for n in range(parts)], "change": change, "columns": columns}
