"""What is checked of a view when it is declared, in code or as data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from mesh_core.model.entity import EntityModel
from mesh_core.model.errors import DeclarationError
from mesh_core.model.expressions import ColumnRef, Comparison, Expr, Literal_, Negation, NullTest, TwoSided
from mesh_core.model.identifiers import name_problem
from mesh_core.model.paths import Path
from mesh_core.model.rollups import Rollup
from mesh_core.model.types import constant_value
from mesh_core.model.view_model import ViewModel

MAX_DEPTH = 8
MAX_INDEX = 8
"""Columns of an index; Postgres takes 32, the key among them."""
MAX_COLUMNS = 500
"""Columns of a view; Postgres takes 1,600."""
MAX_DOC = 10_000
"""Characters of what is said of a view, or of a column."""
MAX_CACHE = 31_536_000
"""Seconds of a cache level: a year."""


def checked(model: ViewModel, root: EntityModel) -> ViewModel:
    """`model` if it can work. Raises DeclarationError naming view and column."""
    if problem := name_problem(model.name):
        raise DeclarationError(f"View {problem}.")
    if len(model.columns) > MAX_COLUMNS:
        raise DeclarationError(f"{model.name}: {len(model.columns)} columns; at most {MAX_COLUMNS}.")
    names: set[str] = set()
    for column in model.columns:
        where = f"{model.name}.{column.name}"
        if problem := name_problem(column.name):
            raise DeclarationError(f"{where}: {problem}.")
        if column.name in names:
            raise DeclarationError(f"{where}: there are two columns of this name.")
        names.add(column.name)
        _check_doc(where, column.doc)
        if column.expression is None:
            continue
        _check_constants(where, column.expression)
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
    _check_doc(model.name, model.doc)
    _check_cache(model)
    return model


def _check_doc(where: str, doc: str) -> None:
    if len(doc) > MAX_DOC or "\0" in doc:
        raise DeclarationError(
            f"{where}: what is said of it is text of at most {MAX_DOC:,} characters, none of them NUL."
        )


def _check_cache(model: ViewModel) -> None:
    level = model.cache
    if level is None or level == "no-store" or (type(level) is int and 1 <= level <= MAX_CACHE):
        return
    raise DeclarationError(
        f"{model.name}: the cache level {level!r} is neither 1 to {MAX_CACHE:,} seconds nor 'no-store'.",
        remedy="Leave it out to have every answer checked anew, which costs a 304 where nothing has changed.",
    )


def _check_constants(where: str, expression: Expr[Any, Any]) -> None:
    """What a time, a date or a UUID is compared with must be one: Postgres would refuse it at the first row only."""
    for part in _parts(expression):
        if not isinstance(part, Comparison) or not isinstance(part.right, Literal_):
            continue
        kind, value = part.left.type.kind, part.right.value
        if kind not in ("timestamptz", "date", "uuid"):
            continue
        if not isinstance(value, str):
            raise DeclarationError(
                f"{where}: {part.left!r} is {kind}, and cannot be compared with {value!r}."
            )
        try:
            constant_value(kind, value)
        except ValueError as error:
            raise DeclarationError(f"{where}: {part.left!r} is {kind}: {str(error).rstrip('.')}.") from None


def _parts(expression: Expr[Any, Any]) -> Iterator[Expr[Any, Any]]:
    yield expression
    match expression:
        case Rollup():
            inner = [expression.argument, expression.where, *expression.by]
        case TwoSided():
            inner = [expression.left, expression.right]
        case Negation() | NullTest():
            inner = [expression.operand]
        case _:
            inner = []
    for part in inner:
        if part is not None:
            yield from _parts(part)


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
