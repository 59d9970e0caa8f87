"""A view as plain data: what a version is built from, and its presentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from mesh_core.model.expressions import (
    Arithmetic,
    Coalesce,
    ColumnRef,
    Comparison,
    Expr,
    Logical,
    Negation,
    NullTest,
)
from mesh_core.model.paths import Path
from mesh_core.model.plain import expression_from_json, expression_to_json, path_from_json, path_to_json
from mesh_core.model.rollups import Rollup
from mesh_core.model.types import ColumnType

CacheLevel = int | Literal["no-store"] | None
"""For how many seconds an answer may be used again without asking; None: it is asked each time whether it changed."""


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a view. `expression` is None in a custom view, whose SQL computes it."""

    name: str
    type: ColumnType
    expression: Expr[Any, Any] | None = None
    doc: str = ""


@dataclass(frozen=True)
class ViewModel:
    """A view as plain data.

    `sql` and `number` belong to custom views: a SELECT over `{service_entity}` placeholders, and the number
    that says it changed. `edges` are the paths whose changes touch a root, besides those of the columns. `indexes` are
    the columns of each, besides the key. What is said of it and its `cache` level are its presentation: they change
    without a build.
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
    cache: CacheLevel = None

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

    @property
    def presentation(self) -> dict[str, Any]:
        """What is said of it, and how it may be kept by who has read it, as plain JSON; no build depends on these."""
        said: dict[str, Any] = {
            "doc": self.doc,
            "columns": {column.name: column.doc for column in self.columns if column.doc},
            "cache": self.cache,
        }
        return {name: value for name, value in said.items() if value}

    def to_document(self) -> dict[str, Any]:
        """All of the declaration as plain JSON, as the admin API takes it: that of `to_json` with its presentation."""
        data, said = self.to_json(), self.presentation
        for column in data["columns"]:
            if doc := said.get("columns", {}).get(column["name"]):
                column["doc"] = doc
        return data | {name: said[name] for name in ("doc", "cache") if name in said}

    def to_json(self) -> dict[str, Any]:
        """What a version is built from, as plain JSON."""
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
    def from_json(cls, data: Mapping[str, Any], presentation: Mapping[str, Any] | None = None) -> ViewModel:
        """What `to_json` and `presentation` wrote."""
        said = presentation or {}
        docs = said.get("columns", {})
        return cls(
            data["name"],
            data["root"],
            tuple(data["key"]),
            tuple(
                ViewColumn(
                    column["name"],
                    ColumnType.from_json(column["type"]),
                    expression_from_json(column["expression"]) if column["expression"] else None,
                    docs.get(column["name"], ""),
                )
                for column in data["columns"]
            ),
            data.get("sql"),
            data.get("number", 0),
            tuple(path_from_json(path) for path in data.get("edges", ())),
            said.get("doc", ""),
            tuple(map(tuple, data.get("indexes", ()))),
            said.get("cache"),
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
