"""Computes a view from scratch by walking its expressions, for the naive model."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

from mesh_core.model.catalog import Catalog
from mesh_core.model.expressions import (
    Arithmetic,
    Coalesce,
    ColumnRef,
    Comparison,
    Expr,
    Literal_,
    Logical,
    Negation,
    NullTest,
)
from mesh_core.model.paths import Edge, Path
from mesh_core.model.rollups import Rollup
from mesh_core.model.view_model import ViewModel

Row = Mapping[str, Any]
EXACT = Context(prec=5000)


@dataclass(frozen=True)
class Tables:
    """The rows of every entity, by its name."""

    catalog: Catalog
    rows: Mapping[str, Mapping[tuple[Any, ...], Row]]

    def view(self, view: ViewModel) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The rows of a view by key."""
        return {
            key: {column.name: self.value(column.expression, row) for column in view.columns}
            for key, row in self.rows[view.root].items()
        }

    def value(self, expression: Expr[Any, Any] | None, row: Row) -> Any:
        """An expression's value for a row of the entity it starts from."""
        match expression:
            case Literal_(value):
                return value
            case ColumnRef():
                found = list(self.walk(expression.path, row))
                return found[0][expression.column] if found else None
            case Rollup():
                return self.rollup(expression, row)
            case Arithmetic(op, left, right):
                return _calculated(op, self.value(left, row), self.value(right, row))
            case Comparison(op, left, right):
                return _compared(op, self.value(left, row), self.value(right, row))
            case Logical(op, left, right):
                sides = {self.value(left, row), self.value(right, row)}
                decisive = op == "or"
                if decisive in sides:
                    return decisive
                return None if None in sides else not decisive
            case Coalesce(left, right):
                value = self.value(left, row)
                return self.value(right, row) if value is None else value
            case Negation(operand):
                value = self.value(operand, row)
                return None if value is None else not value
            case NullTest(operand, is_null):
                return (self.value(operand, row) is None) == is_null
        raise TypeError(expression)

    def walk(self, path: Path, row: Row) -> Iterator[Row]:
        """The rows at the end of `path`, once for every way that leads to them."""
        if not path:
            yield row
            return
        for found in self.step(path[0], row):
            yield from self.walk(path[1:], found)

    def step(self, edge: Edge, row: Row) -> Iterator[Row]:
        if edge.kind == "workflow":
            yield from self.of_same_workflow(edge, row)
            return
        wanted = [row[name] for name in edge.source_columns]
        for found in self.rows[edge.target].values():
            if None not in wanted and [found[name] for name in edge.target_columns] == wanted:
                yield found

    def of_same_workflow(self, edge: Edge, row: Row) -> Iterator[Row]:
        workflows = self.workflows(edge.source, row)
        for found in self.rows[edge.target].values():
            if workflows & self.workflows(edge.target, found):
                yield found

    def workflows(self, entity: str, row: Row) -> set[UUID]:
        """The workflows that a row is an entry of; a workflow is of itself."""
        if entity == "mesh.workflow":
            return {row["workflow_id"]}
        service, name = entity.split(".")
        parts = [str(row[column]) for column in self.catalog.entities[entity].key]
        key = parts[0] if len(parts) == 1 else ",".join(quote(part, safe="") for part in parts)
        return {
            entry["workflow_id"]
            for entry in self.rows["mesh.workflow_entry"].values()
            if (entry["service"], entry["entity"], entry["key"]) == (service, name, key)
        }

    def rollup(self, rollup: Rollup[Any, Any], row: Row) -> Any:
        rows = [
            found
            for found in self.walk(rollup.path, row)
            if rollup.where is None or self.value(rollup.where, found) is True
        ]
        if rollup.function == "count":
            return len(rows)
        key = self.catalog.entities[rollup.path[-1].target].key
        valued = [
            (
                [self.value(by, found) for by in rollup.by],
                [found[name] for name in key],
                self.value(rollup.argument, found),
            )
            for found in rows
        ]
        values = [value for _, _, value in valued if value is not None]
        match rollup.function:
            case "sum":
                return functools.reduce(EXACT.add, (Decimal(value) for value in values), Decimal(0))
            case "min":
                return min(values, default=None)
            case "max":
                return max(values, default=None)
            case "latest":
                with_by = [entry for entry in valued if None not in entry[0]]
                return max(with_by or valued, key=lambda entry: entry[:2], default=(None, None, None))[2]
            case "list":
                valued.sort(key=lambda entry: ([(by is None, by or 0) for by in entry[0]], entry[1]))
                return [_as_json(value) for _, _, value in valued[: rollup.limit]]
        raise TypeError(rollup)


def _calculated(op: str, left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    if isinstance(left, float) or isinstance(right, float):
        a, b = float(left), float(right)
        return a + b if op == "+" else a - b if op == "-" else a * b
    calculate = {"+": EXACT.add, "-": EXACT.subtract, "*": EXACT.multiply}[op]
    return calculate(Decimal(left), Decimal(right))


def _compared(op: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if isinstance(right, str) and not isinstance(left, str):
        parse: dict[type, Any] = {
            datetime: datetime.fromisoformat,
            date: date.fromisoformat,
            UUID: UUID,
        }
        right = parse[type(left)](right)
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "=": operator.eq,
        "<>": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
    return compare[op](left, right)


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
