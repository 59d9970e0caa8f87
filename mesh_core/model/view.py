"""Views: one row per root-entity key, joined and rolled up from several entities."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, TypeVar

from mesh_core.model.edges import Many, One
from mesh_core.model.entity import Entity, EntityModel
from mesh_core.model.errors import DeclarationError
from mesh_core.model.expressions import (
    Arithmetic,
    Coalesce,
    ColumnRef,
    Comparison,
    Expr,
    Logical,
    Negation,
    NullTest,
    literal,
)
from mesh_core.model.identifiers import name_problem
from mesh_core.model.paths import Path
from mesh_core.model.plain import expression_from_json, expression_to_json, path_from_json, path_to_json
from mesh_core.model.rollups import Rollup
from mesh_core.model.types import ColumnType, field_type

R = TypeVar("R", bound=Entity)
MAX_DEPTH = 8
MAX_INDEX = 8
"""Columns of an index; Postgres takes 32, the key among them."""


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a view. `expression` is None in a custom view, whose SQL computes it."""

    name: str
    type: ColumnType
    expression: Expr[Any, Any] | None = None


@dataclass(frozen=True)
class ViewModel:
    """A view as plain data.

    `sql` and `number` belong to custom views: a SELECT over `{service_entity}` placeholders, and the number
    that says it changed. `edges` are the paths whose changes touch a root, besides those of the columns. `indexes` are
    the columns of each, besides the key.
    """

    name: str
    root: str
    key: tuple[str, ...]
    columns: tuple[ViewColumn, ...]
    sql: str | None = None
    number: int = 0
    edges: tuple[Path, ...] = ()
    doc: str = ""
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def table(self) -> str:
        """The stem of its physical tables."""
        return self.name

    @cached_property
    def paths(self) -> frozenset[Path]:
        """Every node of the tree as its path from the root; () is the root itself."""
        found: set[Path] = {()}
        for path in [*self.edges, *(path for path, _ in self.references)]:
            found.update(path[:length] for length in range(len(path) + 1))
        return frozenset(found)

    @cached_property
    def references(self) -> frozenset[tuple[Path, str]]:
        """(path, column) of every entity column that an expression reads."""
        found: set[tuple[Path, str]] = {((), name) for name in self.key}
        for column in self.columns:
            if column.expression is not None:
                found.update(references(column.expression))
        return frozenset(found)

    @cached_property
    def entities(self) -> frozenset[str]:
        """Names of the entities that the view reads."""
        names = {self.root} | {path[-1].target for path in self.paths if path}
        if any(edge.kind == "workflow" for path in self.paths for edge in path):
            names.add("mesh.workflow_entry")
        return frozenset(names)

    def column(self, name: str) -> ViewColumn:
        """Raises KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        data: dict[str, Any] = {
            "name": self.name,
            "root": self.root,
            "key": list(self.key),
            "columns": [
                {
                    "name": column.name,
                    "type": column.type.to_json(),
                    "expression": expression_to_json(column.expression)
                    if column.expression is not None
                    else None,
                }
                for column in self.columns
            ],
        }
        if self.indexes:
            data["indexes"] = [list(index) for index in self.indexes]
        if self.sql is not None:
            data |= {
                "sql": self.sql,
                "number": self.number,
                "edges": [path_to_json(path) for path in self.edges],
            }
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ViewModel:
        """What `to_json` wrote."""
        return cls(
            data["name"],
            data["root"],
            tuple(data["key"]),
            tuple(
                ViewColumn(
                    column["name"],
                    ColumnType.from_json(column["type"]),
                    expression_from_json(column["expression"]) if column["expression"] else None,
                )
                for column in data["columns"]
            ),
            data.get("sql"),
            data.get("number", 0),
            tuple(path_from_json(path) for path in data.get("edges", ())),
            indexes=tuple(map(tuple, data.get("indexes", ()))),
        )


def references(expression: Expr[Any, Any], prefix: Path = ()) -> Iterator[tuple[Path, str]]:
    """(path, column) of every entity column that `expression` reads, paths starting at its root's root."""
    match expression:
        case ColumnRef():
            yield prefix + expression.path, expression.column
        case Rollup():
            inner = prefix + expression.path
            yield inner, ""
            for part in (expression.argument, expression.where, *expression.by):
                if part is not None:
                    yield from references(part, inner)
        case Arithmetic() | Comparison() | Logical() | Coalesce():
            yield from references(expression.left, prefix)
            yield from references(expression.right, prefix)
        case Negation() | NullTest():
            yield from references(expression.operand, prefix)


class View(Generic[R]):
    """A joined row per row of `root`, kept up to date ahead of reads.

    `columns` are expressions that start from the root. The root's key columns must be among them, under
    their own names. `indexes` are columns that reads filter or order by: `["city", ("status", "total")]`.
    """

    def __init__(
        self,
        name: str,
        root: type[R],
        /,
        *,
        doc: str = "",
        indexes: Sequence[str | Sequence[str]] = (),
        **columns: Expr[R, Any],
    ) -> None:
        self.model = checked(
            ViewModel(
                name,
                root.model.name,
                root.model.key,
                tuple(
                    ViewColumn(column, _typed(name, column, value), value)
                    for column, value in columns.items()
                ),
                doc=doc,
                indexes=_indexes(indexes),
            ),
            root.model,
        )


class CustomView(Generic[R]):
    """A view written as SQL, for what a tree of edges cannot say.

    `sql` is one SELECT over `{service_entity}` placeholders, giving `columns` in any order with the root's
    key among them; one row a key. `edges` are the edges from the root over which a change reaches a row.
    Raise `number` whenever the SQL changes.
    """

    def __init__(
        self,
        name: str,
        root: type[R],
        /,
        *,
        number: int,
        sql: str,
        columns: Mapping[str, Any],
        edges: Sequence[One[R, Any] | Many[R, Any]] = (),
        doc: str = "",
        indexes: Sequence[str | Sequence[str]] = (),
    ) -> None:
        typed = []
        for column, annotation in columns.items():
            kind = field_type(annotation)
            typed.append(ViewColumn(column, ColumnType(kind.column_kind, kind.nullable)))
        model = ViewModel(
            name,
            root.model.name,
            root.model.key,
            tuple(typed),
            sql,
            number,
            tuple(edge.path for edge in edges),
            doc,
            _indexes(indexes),
        )
        reached = {entity.replace(".", "_"): entity for entity in sorted(model.entities)}
        read = set(re.findall(r"\{(\w+)\}", sql))
        for placeholder, entity in reached.items():
            if placeholder not in read:
                raise DeclarationError(f"{name}: its edges reach {entity}, but the SQL does not read it.")
        if unreached := sorted(read - set(reached)):
            raise DeclarationError(
                f"{name}: the SQL reads {{{unreached[0]}}}, which no edge reaches, so its changes would go unseen.",
                remedy="Name an edge to it in edges=[…].",
            )
        self.model = checked(model, root.model)


def _indexes(declared: Sequence[str | Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple((index,) if isinstance(index, str) else tuple(index) for index in declared)


def _check_index(model: ViewModel, index: tuple[str, ...]) -> None:
    kinds = {column.name: column.type.kind for column in model.columns}
    for name in index:
        if name not in kinds:
            raise DeclarationError(f"{model.name}: there is no column {name}, which an index names.")
        if kinds[name] == "json":
            raise DeclarationError(
                f"{model.name}: {name} is JSON, which has no order; an index cannot have it.",
                remedy="Declare a column for what is looked for in it.",
            )
    if len(index) > MAX_INDEX:
        raise DeclarationError(f"{model.name}: an index has at most {MAX_INDEX} columns.")
    if not index or len(set(index)) != len(index) or model.indexes.count(index) > 1:
        raise DeclarationError(
            f"{model.name}: the index ({', '.join(index)}) is empty or names something twice."
        )


def _typed(view: str, column: str, value: Any) -> ColumnType:
    if not isinstance(value, Expr):
        raise DeclarationError(
            f"{view}.{column}: {value!r} is not a column or an expression.",
            remedy="Many rows must be rolled up: count, sum, min, max, latest or list."
            if isinstance(value, Many)
            else "Reach one of its columns: edge[Other.column].",
        )
    return value.type


def checked(model: ViewModel, root: EntityModel) -> ViewModel:
    """`model` if it can work. Raises DeclarationError naming view and column."""
    if problem := name_problem(model.name):
        raise DeclarationError(f"View {problem}.")
    for column in model.columns:
        where = f"{model.name}.{column.name}"
        if problem := name_problem(column.name):
            raise DeclarationError(f"{where}: {problem}.")
        if column.expression is None:
            continue
        start = column.expression.root
        if start not in (None, model.root):
            raise DeclarationError(
                f"{where} starts from {start}, but the view's root is {model.root}.",
                remedy="Reach it over an edge: edge[Other.column].",
            )
    for name in root.key:
        column_ = next((column for column in model.columns if column.name == name), None)
        own = column_ is not None and (
            model.sql is not None
            or (
                isinstance(column_.expression, ColumnRef)
                and not column_.expression.path
                and column_.expression.column == name
            )
        )
        if not own:
            raise DeclarationError(
                f"{model.name}: the root's key column {name} is missing.",
                remedy=f"Add {name}=… with the root's own column.",
            )
    for path in model.paths:
        _check_path(model.name, path)
    for index in model.indexes:
        _check_index(model, index)
    return model


def _check_path(view: str, path: Path) -> None:
    if len(path) > MAX_DEPTH:
        raise DeclarationError(f"{view}: {len(path)} edges deep; at most {MAX_DEPTH}.")
    for before, after in pairwise(path):
        if before.target != after.source:
            raise DeclarationError(
                f"{view}: an edge ends at {before.target} and the next starts at {after.source}."
            )
    if len(set(path)) != len(path):
        raise DeclarationError(
            f"{view}: a cycle, {' → '.join(edge.target for edge in path)}.", remedy="Follow each edge once."
        )


__all__ = ["CustomView", "View", "ViewColumn", "ViewModel", "checked", "literal", "references"]
