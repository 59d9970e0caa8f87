"""Set-based writes of one entity version: rows are staged, then there is one statement per patch shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import psycopg

from mesh_core.model.entity import EntityModel
from mesh_core.model.types import ColumnType
from mesh_core.store import scratch
from mesh_core.store.affected import Node
from mesh_core.store.connections import in_pipeline, rows_written
from mesh_core.store.scratch import Scratch, as_arrays
from mesh_core.store.tables import columns_sql, physical, quote

ShapeKind = Literal["upsert", "patch", "delete"]


@dataclass(frozen=True)
class Shape:
    """What a staged row does: `operations` are (column, set | add | max | min).

    `upsert` creates the row or applies the operations, `patch` applies them to a row known to be present.
    """

    kind: ShapeKind
    operations: tuple[tuple[str, str], ...] = ()


@dataclass
class EntityVersion:
    """A live or building version of an entity, and the statements that write it.

    `nodes` are the places in views where its rows matter; they decide what the touched table carries.
    """

    id: int
    model: EntityModel
    relation: str
    nodes: Sequence[Node] = ()
    scratch: Scratch = field(default_factory=Scratch)
    statements: dict[tuple[Shape, bool], str] = field(default_factory=dict)

    @property
    def staging(self) -> str:
        """The session's table of rows to write, as an SQL name."""
        return quote(f"stage_{self.relation}")

    @property
    def cleared(self) -> str:
        """The session's table of record keys whose rows are replaced, as an SQL name."""
        return quote(f"cleared_{self.relation}")

    @property
    def touched(self) -> str:
        """The session's table of what was written, as an SQL name."""
        return quote(f"touched_{self.relation}")

    @cached_property
    def flags(self) -> dict[frozenset[str] | None, str]:
        """The touched table has one flag for every distinct set of columns whose change matters to some node."""
        return {
            relevant: f"f{n}"
            for n, relevant in enumerate(dict.fromkeys(node.relevant for node in self.nodes))
        }

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """Non-key columns whose old and new values the touched table carries."""
        return tuple(dict.fromkeys(column for node in self.nodes for column in node.carried))

    @cached_property
    def tells_sides(self) -> bool:
        """Whether the touched table says if there was a row before, and if there is one now."""
        return any(node.kept for node in self.nodes)

    @cached_property
    def copy_types(self) -> list[str]:
        """Types of a staged row: the columns, then `_partition` and `_shape`."""
        return [_staged(column.type) for column in self.model.columns] + ["int4", "int4"]

    def temporary_tables(self) -> Iterable[str]:
        """Statements that make the session's tables."""
        model = self.model
        columns = [f"{quote(c.name)} {_staged(c.type)}" for c in model.columns]
        yield from scratch.table(self.staging, [*columns, "_partition int4", "_shape int4"])
        if len(model.record_key) < len(model.key):
            yield from scratch.table(
                self.cleared,
                [*(f"{quote(c)} {model.column(c).type.sql}" for c in model.record_key), "_partition int4"],
            )
        if self.nodes:
            keys = [f"{quote(name)} {model.column(name).type.sql}" for name in model.key]
            pairs = [
                f"{quote(f'{side}_{name}')} {model.column(name).type.sql}"
                for name in self.carried
                for side in ("old", "new")
            ]
            flags = [*self.flags.values(), *(("_old", "_new") if self.tells_sides else ())]
            yield from scratch.table(self.touched, [*keys, *pairs, *(f"{flag} boolean" for flag in flags)])

    def stage(self, cursor: psycopg.Cursor[Any], rows: Iterable[Sequence[Any]]) -> None:
        """Put rows to write: values by column (None where the shape has none), partition, shape number."""
        self.scratch.put(cursor, self.staging, self.copy_types, rows)

    def writes_at_once(self, cursor: psycopg.Cursor[Any]) -> bool:
        """Whether rows can be written without being staged before: few of them, whose record has no others.

        Two statements less: a small transaction takes a tenth less.
        """
        return in_pipeline(cursor) and len(self.model.record_key) == len(self.model.key)

    def write(
        self,
        connection: psycopg.Connection[Any],
        shape: Shape,
        number: int,
        staged: int,
        at_once: Sequence[Sequence[Any]] = (),
    ) -> Callable[[], int]:
        """Apply the staged rows of a shape, or those of `at_once`; the function tells how many rows that wrote.

        They are fewer than `staged` if another partition owns some of them.
        """
        kind = (shape, bool(at_once))
        statement = self.statements.get(kind)
        if statement is None:
            statement = self.statements[kind] = self._statement(
                shape, self._given if at_once else self.staging
            )
        if self.nodes:
            self.scratch.note(self.touched, staged)
        arrays = as_arrays(self.copy_types, at_once)
        cursor = connection.execute(statement, (*arrays, number))
        return lambda: rows_written(cursor)

    @property
    def _given(self) -> str:
        """Rows that are bound to a statement, as a relation like the staging table."""
        arrays = ", ".join(f"%s::{kind}[]" for kind in self.copy_types)
        names = [*(quote(column.name) for column in self.model.columns), "_partition", "_shape"]
        return f"(SELECT * FROM unnest({arrays}) AS g({', '.join(names)}))"

    def foreign(self, cursor: psycopg.Cursor[Any]) -> tuple[tuple[Any, ...], int, int]:
        """A staged key that another partition owns: (key, our partition, the owner)."""
        row = cursor.connection.execute(
            f"SELECT {columns_sql(self.model.key, 't')}, s._partition, t._partition FROM {self.staging} s "
            f"JOIN {physical(self.relation)} t ON {self._match('t', 's', self.model.key)} "
            "WHERE t._partition <> s._partition LIMIT 1"
        ).fetchone()
        assert row is not None
        return tuple(row[:-2]), row[-2], row[-1]

    def clear(
        self, cursor: psycopg.Cursor[Any], record_keys: Mapping[tuple[Any, ...], int]
    ) -> tuple[tuple[Any, ...], int, int] | None:
        """Remove the rows of these record keys that are not staged anew (`each`).

        `record_keys` have the partition that they came from. The answer, as of `foreign`, is a row that
        another partition owns, if there is one; nothing must be committed then.
        """
        types = [*(self.model.column(name).type.sql for name in self.model.record_key), "int4"]
        rows = ([*record_key, partition] for record_key, partition in record_keys.items())
        self.scratch.put(cursor, self.cleared, types, rows)
        matching = f"{physical(self.relation)} t {{}} {self.cleared} c {{}} {self._match('t', 'c', self.model.record_key)}"
        stranger = cursor.connection.execute(
            f"SELECT {columns_sql(self.model.key, 't')}, c._partition, t._partition "
            f"FROM {matching.format('JOIN', 'ON')} AND t._partition <> c._partition LIMIT 1"
        ).fetchone()
        if stranger is not None:
            return tuple(stranger[:-2]), stranger[-2], stranger[-1]
        deleting = cursor.connection.execute(
            self._recorded(
                f"DELETE FROM {matching.format('USING', 'WHERE')} AND NOT EXISTS "
                f"(SELECT FROM {self.staging} s WHERE {self._match('s', 't', self.model.key)} "
                f"AND s._shape >= 0)"
            )
        )
        if self.nodes:
            self.scratch.note(self.touched, rows_written(deleting))
        return None

    def _statement(self, shape: Shape, rows: str) -> str:
        model, table = self.model, physical(self.relation)
        names = [name for name, _ in shape.operations]
        staged = f"{rows} s WHERE s._shape = %s"
        match = self._match("t", "s", model.key)
        if shape.kind == "delete":
            return self._recorded(
                f"DELETE FROM {table} t USING {staged} AND {match} AND t._partition = s._partition"
            )
        if shape.kind == "patch":
            changes = [f"{quote(name)} = {self._change(name, op, 's')}" for name, op in shape.operations]
            return self._recorded(
                f"UPDATE {table} t SET {', '.join(changes)} FROM {staged} AND {match} AND t._partition = s._partition"
            )
        values = [self._cast(name, "s") for name in names]
        into = columns_sql([*model.key, *names, "_partition"])
        changes = [f"{quote(name)} = {self._change(name, op, 'excluded')}" for name, op in shape.operations]
        changes = changes or ["_partition = t._partition"]
        selected = ", ".join([columns_sql(model.key, "s"), *values, "s._partition"])
        return self._recorded(
            f"INSERT INTO {table} AS t ({into}) SELECT {selected} FROM {staged} "
            f"ON CONFLICT ({columns_sql(model.key)}) DO UPDATE SET {', '.join(changes)} "
            f"WHERE t._partition = excluded._partition"
        )

    def _change(self, name: str, op: str, source: str) -> str:
        value = f"{source}.{quote(name)}" if source == "excluded" else self._cast(name, source)
        current = f"t.{quote(name)}"
        match op:
            case "add":
                return f"coalesce({current}, 0) + {value}"
            case "max":
                return f"greatest({current}, {value})"
            case "min":
                return f"least({current}, {value})"
        return value

    def _cast(self, name: str, alias: str) -> str:
        json = self.model.column(name).type.kind == "json"
        return f"{alias}.{quote(name)}{'::jsonb' if json else ''}"

    def _recorded(self, statement: str) -> str:
        """`statement`, its old and new values recorded in the touched table where a view may need them."""
        if not self.nodes:
            return statement
        outputs = [f"coalesce(new.{quote(name)}, old.{quote(name)})" for name in self.model.key]
        outputs += [f"{side}.{quote(name)}" for name in self.carried for side in ("old", "new")]
        for relevant in self.flags:
            columns = sorted(relevant) if relevant is not None else self._value_columns
            differs = [f"old.{quote(name)} IS DISTINCT FROM new.{quote(name)}" for name in columns]
            outputs.append(" OR ".join(["old._partition IS NULL", "new._partition IS NULL", *differs]))
        if self.tells_sides:
            outputs += ["old._partition IS NOT NULL", "new._partition IS NOT NULL"]
        return f"WITH written AS ({statement} RETURNING {', '.join(outputs)}) INSERT INTO {self.touched} SELECT * FROM written"

    @property
    def _value_columns(self) -> list[str]:
        return [column.name for column in self.model.columns if not column.key]

    @staticmethod
    def _match(left: str, right: str, names: Sequence[str]) -> str:
        return " AND ".join(f"{left}.{quote(name)} = {right}.{quote(name)}" for name in names)


def _staged(kind: ColumnType) -> str:
    # jsonb travels as text: the text is at hand, and Postgres parses it in the same statement
    names = {"json": "text", "numeric": "numeric", "int": "int8", "float": "float8", "bool": "bool"}
    return names.get(kind.kind, kind.kind)
