"""Entity tables while they are filled in bulk: no key, no index, rows only ever copied in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from mesh_core.store.entity_writes import EntityVersion, Shape
from mesh_core.store.tables import bulk_name, columns_sql, physical, quote


class Rows(Protocol):
    """What was folded of one entity: see `EntityRows`."""

    cleared: dict[tuple[Any, ...], int]

    def staged(self, numbers: dict[Shape, int]) -> Iterator[list[Any]]:
        """Rows of values by column, partition, and the number of a shape in `numbers`."""


@dataclass(frozen=True)
class Heap:
    """The table of a version without its key, and one beside it for what comes in several windows."""

    version: EntityVersion

    @property
    def beside(self) -> str:
        """The table of windows, as an SQL name."""
        return physical(bulk_name(self.version.relation))

    def create(self, connection: psycopg.Connection[Any]) -> None:
        """Make the table of windows, empty."""
        connection.execute(
            f"CREATE UNLOGGED TABLE {self.beside} (LIKE {physical(self.version.relation)}, _window int4, _gone boolean)"
        )
        for column in self.version.model.columns:
            if len(self.version.model.record_key) < len(self.version.model.key) or not column.key:
                connection.execute(f"ALTER TABLE {self.beside} ALTER {quote(column.name)} DROP NOT NULL")

    def copy(self, cursor: psycopg.Cursor[Any], rows: Rows, window: int | None) -> None:
        """Copy what a window came to; straight into the table if it is the only one (`window` None)."""
        model = self.version.model
        columns = columns_sql([*(column.name for column in model.columns), "_partition"])
        text = any(
            column.type.kind == "json" for column in model.columns
        )  # binary jsonb would be parsed twice
        options = "" if text else " (FORMAT binary)"
        types = ["text" if kind == "json" else kind for kind in self.version.copy_types[:-1]]
        numbers: dict[Shape, int] = {}
        if window is None:
            with cursor.copy(
                f"COPY {physical(self.version.relation)} ({columns}) FROM STDIN{options}"
            ) as copy:
                copy.set_types(types)
                gone = {}
                for row in rows.staged(numbers):
                    number = row.pop()
                    if number not in gone:
                        gone = {n: shape.kind == "delete" for shape, n in numbers.items()}
                    if not gone[number]:
                        copy.write_row(row)
            return
        width, record = len(model.columns), len(model.record_key)
        with cursor.copy(f"COPY {self.beside} ({columns}, _window, _gone) FROM STDIN{options}") as copy:
            copy.set_types([*types, "int4", "bool"])
            gone = {}
            for row in rows.staged(numbers):
                number = row.pop()
                if number not in gone:
                    gone = {n: shape.kind == "delete" for shape, n in numbers.items()}
                copy.write_row([*row, window, gone[number]])
            for key, partition in rows.cleared.items():
                copy.write_row([*key, *(None,) * (width - record), partition, window, True])

    def finish(self, connection: psycopg.Connection[Any]) -> None:
        """Merge the windows, index by key, gather statistics. Raises UniqueViolation for a key of two partitions."""
        model, table = self.version.model, physical(self.version.relation)
        columns = columns_sql([*(column.name for column in model.columns), "_partition"])
        record = columns_sql(model.record_key)
        connection.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM (SELECT *, max(_window) OVER "
            f"(PARTITION BY {record}, _partition) AS _last FROM {self.beside}) AS w WHERE _window = _last AND NOT _gone"
        )
        connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({columns_sql(model.key)})")
        connection.execute(f"DROP TABLE {self.beside}")
        connection.execute(f"ANALYZE {table}")

    def twice(self, connection: psycopg.Connection[Any]) -> tuple[tuple[Any, ...], list[int]]:
        """A record key that came from several partitions, and which."""
        record = columns_sql(self.version.model.record_key)
        *key, partitions = connection.execute(
            f"SELECT {record}, array_agg(DISTINCT _partition) FROM (SELECT {record}, _partition "
            f"FROM {physical(self.version.relation)} UNION ALL SELECT {record}, _partition FROM {self.beside}) AS r "
            f"GROUP BY {record} HAVING count(DISTINCT _partition) > 1 LIMIT 1"
        ).fetchone() or ((), [])
        return tuple(key), list(partitions)
