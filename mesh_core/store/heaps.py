"""Entity tables while they are filled in bulk: no key, no index, rows only ever copied in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import psycopg

from mesh_core.store.entity_writes import EntityVersion, Shape
from mesh_core.store.tables import bulk_name, columns_sql, literal, physical, quote


class Asked(NamedTuple):
    """A delete of which only the windows before tell whether there was anything; `counted` if that decides its outcome.

    Else another version holds the record, so it decides what the record came to `otherwise`.
    """

    key: tuple[Any, ...]
    partition: int
    offset: int
    counted: bool


class Rows(Protocol):
    """What was folded of one entity: see `EntityRows`."""

    cleared: dict[tuple[Any, ...], int]
    asked: list[Asked]

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

    def create(self, connection: psycopg.Connection[Any], *, logged: bool = False) -> None:
        """Make the table of windows, empty; `logged` where it must outlive a crash of Postgres, which empties others."""
        connection.execute(
            f"CREATE {'' if logged else 'UNLOGGED '}TABLE {self.beside} (LIKE {physical(self.version.relation)}, _window int4, "
            "_gone boolean, _offset int8, _counted boolean)"
        )
        for column in self.version.model.columns:
            if len(self.version.model.record_key) < len(self.version.model.key) or not column.key:
                connection.execute(f"ALTER TABLE {self.beside} ALTER {quote(column.name)} DROP NOT NULL")

    def is_open(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether it is still filled: `finish` drops the table of windows."""
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (self.beside,)).fetchone()
        return bool(row and row[0])

    def windows(self, connection: psycopg.Connection[Any]) -> int:
        """A number that no window has yet, nor any after it; 0 where nothing was copied."""
        row = connection.execute(f"SELECT coalesce(max(_window) + 1, 0) FROM {self.beside}").fetchone()
        assert row is not None
        return int(row[0])

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
        with cursor.copy(
            f"COPY {self.beside} ({columns}, _window, _gone, _offset, _counted) FROM STDIN{options}"
        ) as copy:
            copy.set_types([*types, "int4", "bool", "int8", "bool"])
            gone = {}
            for row in rows.staged(numbers):
                number = row.pop()
                if number not in gone:
                    gone = {n: shape.kind == "delete" for shape, n in numbers.items()}
                copy.write_row([*row, window, gone[number], None, None])
            rest = (None,) * (width - record)
            for key, partition in rows.cleared.items():
                copy.write_row([*key, *rest, partition, window, True, None, None])
            for key, partition, offset, counted in rows.asked:
                copy.write_row([*key, *rest, partition, window, True, offset, counted])

    def finish(self, connection: psycopg.Connection[Any]) -> tuple[tuple[Any, ...], list[int]] | None:
        """Merge the windows, index by key, gather statistics.

        The answer is a record key that has rows of two partitions, and these; nothing must be committed then.
        """
        model, table = self.version.model, physical(self.version.relation)
        columns = columns_sql([*(column.name for column in model.columns), "_partition"])
        record = columns_sql(model.record_key)
        connection.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM (SELECT *, max(_window) OVER "
            f"(PARTITION BY {record}, _partition) AS _last FROM {self.beside}) AS w WHERE _window = _last AND NOT _gone"
        )
        try:
            with connection.transaction():
                connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({columns_sql(model.key)})")
        except psycopg.errors.UniqueViolation:
            return self._twice(connection)
        if len(model.record_key) < len(model.key) and (twice := self._twice(connection)) is not None:
            return twice
        connection.execute(f"DROP TABLE {self.beside}")
        connection.execute(f"ANALYZE {table}")
        return None

    def _twice(self, connection: psycopg.Connection[Any]) -> tuple[tuple[Any, ...], list[int]] | None:
        record = columns_sql(self.version.model.record_key)
        row = connection.execute(
            f"SELECT {record}, ARRAY[min(_partition), max(_partition)] FROM {physical(self.version.relation)} "
            f"GROUP BY {record} HAVING min(_partition) <> max(_partition) LIMIT 1"
        ).fetchone()
        return (row[:-1], row[-1]) if row else None

    @property
    def answers(self) -> str:
        """SELECT of every delete that was asked: topic, partition, offset, counted, whether there was anything."""
        record = columns_sql(self.version.model.record_key)
        return (
            f"SELECT {literal(self.version.model.topic)} AS topic, _partition, _offset, _counted, _found FROM "
            "(SELECT *, coalesce(bool_or(NOT _gone) OVER "
            f"(PARTITION BY {record}, _partition ORDER BY _window GROUPS BETWEEN 1 PRECEDING AND 1 PRECEDING), false) "
            f"AS _found FROM {self.beside} WHERE ({record}) IN (SELECT {record} FROM {self.beside} "
            "WHERE _offset IS NOT NULL)) AS w WHERE _offset IS NOT NULL"
        )


def answer(connection: psycopg.Connection[Any], heaps: Collection[Heap], ids: Collection[int]) -> None:
    """Count deletes that found nothing as ignored; they were taken for applied. `ids` are all versions of the build."""
    if heaps:
        connection.execute(
            "WITH missed AS (SELECT topic, _partition, _offset, _counted "
            f"FROM ({' UNION ALL '.join(heap.answers for heap in heaps)}) AS a GROUP BY 1, 2, 3, 4 HAVING NOT bool_or(_found)), "
            "held AS (UPDATE mesh.held_events AS h SET otherwise = 'ignored' FROM missed AS m WHERE version_id = ANY(%s) "
            'AND (h.topic, h."partition", h."offset") = (m.topic, m._partition, m._offset)) '
            "UPDATE mesh.checkpoints AS c SET applied = applied - missed, ignored = ignored + missed "
            "FROM (SELECT topic, _partition, count(*) AS missed FROM missed WHERE _counted GROUP BY 1, 2) AS m "
            'WHERE c.build = %s AND (c.topic, c."partition") = (m.topic, m._partition)',
            (list(ids), min(ids)),
        )
