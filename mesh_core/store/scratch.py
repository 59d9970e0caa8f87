"""The temporary tables of a session, which are empty between two transactions.

`ON COMMIT DELETE ROWS` truncates all of them at every commit, also those that were not used, and one that holds text
takes 0.3 ms: more than all else in a transaction of few events. So whoever uses them empties them, the cheapest way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import psycopg

from mesh_core.store.connections import in_pipeline

DEAD = 2_000
"""Rows that are deleted one by one from a table, which is quick; then it is truncated, or reading it would take longer.

That takes a few milliseconds: with 500, it was one event in a hundred of W3 that waited for it."""
_ALIKE: Mapping[str, Callable[[Any], Any]] = {"numeric": Decimal, "float8": float}
"""An array is sent as the type of one of its members, so all must be of one."""


class Scratch:
    """Which temporary tables have rows, or had some before a rollback: then there is nothing to delete."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()

    def note(self, table: str, rows: int) -> None:
        """So many rows more are in a table."""
        self._rows[table] += rows

    def put(
        self, cursor: psycopg.Cursor[Any], table: str, types: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Add rows of columns of these types, by COPY; in a pipeline, which has none, by one statement."""
        if in_pipeline(cursor):
            columns = as_arrays(types, rows)
            if not columns:
                return
            arrays = ", ".join(f"%s::{kind}[]" for kind in types)
            cursor.execute(f"INSERT INTO {table} SELECT * FROM unnest({arrays})", columns)
            self.note(table, len(columns[0]))
            return
        with cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
        self.note(table, cursor.rowcount)

    def empty(self, cursor: psycopg.Cursor[Any]) -> None:
        """Empty the tables that were used, at the end of the transaction."""
        full = []
        for table, rows in self._rows.items():
            self._dead[table] += rows
            if self._dead[table] <= DEAD:
                cursor.execute(f"DELETE FROM {table}")
            else:
                full.append(table)
                self._dead[table] = 0
        if full:
            cursor.execute(f"TRUNCATE {', '.join(full)}")
            cursor.execute(f"ANALYZE {', '.join(full)}")  # truncating forgets that they were; see `table`
        self._rows.clear()


def as_arrays(types: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """The columns of rows, each as an array of its type; none of no rows."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    for n, kind in enumerate(types if columns else ()):
        if alike := _ALIKE.get(kind):
            columns[n] = [None if value is None else alike(value) for value in columns[n]]
    return columns


def table(name: str, columns: Iterable[str]) -> Iterator[str]:
    """Statements that make a temporary table anew.

    It is analysed while it is empty: Postgres takes a table that never was for ten pages full, and would read
    large tables from end to end to join them with the few rows that are really there.
    """
    yield f"DROP TABLE IF EXISTS pg_temp.{name}"  # a plan before this one may have needed other columns
    yield f"CREATE TEMP TABLE {name} ({', '.join(columns)})"
    yield f"ANALYZE pg_temp.{name}"
