"""Views: one row per root-entity key, joined and rolled up from several entities."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar

from mesh_core.model.edges import Many, One
from mesh_core.model.entity import Entity
from mesh_core.model.errors import DeclarationError
from mesh_core.model.expressions import Expr
from mesh_core.model.types import ColumnType, field_type
from mesh_core.model.view_checks import checked
from mesh_core.model.view_model import CacheLevel, ViewColumn, ViewModel

R = TypeVar("R", bound=Entity)


class View(Generic[R]):
    """A joined row per row of `root`, kept up to date ahead of reads.

    `columns` are expressions that start from the root. The root's key columns must be among them, under
    their own names. `indexes` are columns that reads filter or order by: `["city", ("status", "total")]`. `doc` says what
    the view is, `docs` what its columns are. `cache` is for how many seconds an answer may be used again without asking,
    or "no-store" where nobody may keep one.
    """

    def __init__(
        self,
        name: str,
        root: type[R],
        /,
        *,
        doc: str = "",
        docs: Mapping[str, str] | None = None,
        indexes: Sequence[str | Sequence[str]] = (),
        cache: CacheLevel = None,
        **columns: Expr[R, Any],
    ) -> None:
        said = _docs(name, docs, columns)
        self.model = checked(
            ViewModel(
                name,
                root.model.name,
                root.model.key,
                tuple(
                    ViewColumn(column, _typed(name, column, value), value, said.get(column, ""))
                    for column, value in columns.items()
                ),
                doc=doc,
                indexes=_indexes(indexes),
                cache=cache,
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
        docs: Mapping[str, str] | None = None,
        indexes: Sequence[str | Sequence[str]] = (),
        cache: CacheLevel = None,
    ) -> None:
        typed, said = [], _docs(name, docs, columns)
        for column, annotation in columns.items():
            kind = field_type(annotation)
            column_type = ColumnType(kind.column_kind, kind.nullable)
            typed.append(ViewColumn(column, column_type, doc=said.get(column, "")))
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
            cache,
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


def _docs(view: str, docs: Mapping[str, str] | None, columns: Collection[str]) -> Mapping[str, str]:
    for column in docs or {}:
        if column not in columns:
            raise DeclarationError(f"{view}: there is no column {column}, which docs say something of.")
    return docs or {}


def _typed(view: str, column: str, value: Any) -> ColumnType:
    if not isinstance(value, Expr):
        raise DeclarationError(
            f"{view}.{column}: {value!r} is not a column or an expression.",
            remedy="Many rows must be rolled up: count, sum, min, max, latest or list."
            if isinstance(value, Many)
            else "Reach one of its columns: edge[Other.column].",
        )
    return value.type
