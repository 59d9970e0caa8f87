"""The SELECT that defines a view, for all its roots or for touched ones.

A tree of edges becomes one statement: `one` edges are left joins on the target's key; every path over
`many` or workflow edges is one subquery, in which all roll-ups over that path are aggregated: LATERAL, which looks the
children of each row up by their index, or grouped by their parent and joined to all rows at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from mesh_core.model.entity import EntityModel
from mesh_core.model.expressions import (
    Arithmetic,
    Coalesce,
    ColumnRef,
    Comparison,
    Condition,
    Expr,
    Literal_,
    Logical,
    Negation,
    NullTest,
)
from mesh_core.model.paths import Edge, Path
from mesh_core.model.rollups import Rollup
from mesh_core.model.view_model import ViewModel
from mesh_core.store.differences import kept_columns
from mesh_core.store.tables import ENTRY, WORKFLOW, columns_sql, key_text_of, literal, physical, quote


@dataclass(frozen=True)
class Tables:
    """The physical tables that a view version reads, by entity name."""

    entities: Mapping[str, EntityModel]
    relations: Mapping[str, str]

    def table(self, entity: str) -> str:
        """The SQL name of an entity's table."""
        return physical(self.relations[entity])


def view_select(
    view: ViewModel,
    tables: Tables,
    touched: str | None = None,
    *,
    many: bool = True,
    before: str | None = None,
) -> str:
    """SELECT of the view's columns in order; of the roots whose keys are in relation `touched`, or of all.

    Of `many` roots it is faster, of a few it would be at the planner's mercy: it might read all children.
    Roots that have a row in relation `before` get what is kept by difference from there and from `touched`.
    """
    if view.sql is not None:
        names = {name.replace(".", "_"): name for name in tables.entities}
        body = re.sub(r"\{(\w+)\}", lambda match: tables.table(names[match.group(1)]), view.sql)
        text = f"SELECT {columns_sql((c.name for c in view.columns), 'v')} FROM ({body}) v"
        if touched:
            text += f" JOIN {touched} k ON {equal('k', view.key, 'v', view.key)}"
        return text
    kept = kept_columns(view)
    is_new = f"b.{quote(view.key[0])} IS NULL" if before else ""
    writer = _Writer(tables, touched, many, frozenset(kept), is_new)
    root = _Scope("r", view.root, writer)
    values = {column.name: root.value(_given(column.expression)) for column in view.columns}
    for each in chain.from_iterable(kept.values()):
        value = values[each.column]
        if is_new:
            value = f"CASE WHEN {is_new} THEN {value} ELSE b.{quote(each.column)} + k.{each.name} END"
        values[each.column] = _canonical(value, each.rollup)
    outputs = [f"{value} AS {quote(name)}" for name, value in values.items()]
    source = f"{tables.table(view.root)} r"
    if touched:
        source = f"{touched} k JOIN {source} ON {equal('k', view.key, 'r', view.key)}"
    if kept and before:
        source += f" LEFT JOIN {before} b ON {equal('b', view.key, 'k', view.key)}"
    return f"SELECT {', '.join(outputs)} FROM {source}{root.joins_sql()}"


def equal(left: str, left_columns: tuple[str, ...], right: str, right_columns: tuple[str, ...]) -> str:
    """The condition that columns of two aliases are equal, pair by pair."""
    pairs = zip(left_columns, right_columns, strict=True)
    return " AND ".join(f"{left}.{quote(a)} = {right}.{quote(b)}" for a, b in pairs)


def workflow_end(model: EntityModel, columns: Mapping[str, str]) -> str:
    """A row's end of `workflow_pairs`, given SQL of its key columns: a workflow's own key, else the key's text.

    A workflow is not compared as text, for then its index would be of no use.
    """
    if model.name == WORKFLOW:
        return columns["workflow_id"]
    return key_text_of([columns[name] for name in model.key])


def workflow_pairs(tables: Tables, source: str, target: str, *, once: bool = True) -> str:
    """A subquery of (source_key, target_key) that share a workflow, each pair once.

    Not `once` is for joins that start elsewhere: Postgres would compute all pairs to find each once.
    """
    select = "SELECT DISTINCT" if once else "SELECT"
    entries = tables.table(ENTRY)
    if WORKFLOW in (source, target):
        other, mine = (target, "source_key") if source == WORKFLOW else (source, "target_key")
        theirs = "target_key" if mine == "source_key" else "source_key"
        return (
            f"({select} workflow_id AS {mine}, key AS {theirs} FROM {entries} WHERE {_entry_is('', other)})"
        )
    return (
        f"({select} a.key AS source_key, b.key AS target_key FROM {entries} a JOIN {entries} b "
        f"ON b.workflow_id = a.workflow_id WHERE {_entry_is('a.', source)} AND {_entry_is('b.', target)})"
    )


def _entry_is(alias: str, entity: str) -> str:
    service, name = entity.split(".")
    return f"{alias}service = {literal(service)} AND {alias}entity = {literal(name)}"


def _given(expression: Expr[Any, Any] | None) -> Expr[Any, Any]:
    assert expression is not None
    return expression


@dataclass
class _Writer:
    tables: Tables
    touched: str | None
    many: bool
    kept: frozenset[Path] = frozenset()
    is_new: str = ""
    """Whether the root has no row before: only then are the children over a path that is `kept` of use."""
    aliases: int = 0

    def alias(self) -> str:
        self.aliases += 1
        return f"t{self.aliases}"


@dataclass
class _Rollups:
    """One subquery: the roll-ups over one path from one scope.

    LATERAL `where` says which children belong to the row. Grouped, they are those of all rows, or of those that `only`
    selects; `parent` are the children's columns and what they are equal to in the row.
    """

    alias: str
    inner: _Scope
    source: str
    where: str
    parent: Sequence[tuple[str, str]] = ()
    only: str = ""
    outputs: list[str] = field(default_factory=list)

    def sql(self) -> str:
        if self.parent:
            columns = ", ".join(ours for ours, _ in self.parent)
            names = ", ".join(f"k{n}" for n in range(len(self.parent)))
            values = ", ".join(f"v{n}" for n in range(len(self.outputs)))
            on = " AND ".join(f"{self.alias}.k{n} = {theirs}" for n, (_, theirs) in enumerate(self.parent))
            return (
                f" LEFT JOIN (SELECT {columns}, {', '.join(self.outputs)} FROM {self.source}{self.inner.joins_sql()}"
                f"{self.only} GROUP BY {columns}) {self.alias}({names}, {values}) ON {on}"
            )
        return (
            f" LEFT JOIN LATERAL (SELECT {', '.join(self.outputs)} FROM {self.source}{self.inner.joins_sql()} "
            f"WHERE {self.where}) {self.alias} ON true"
        )


class _Scope:
    """A row in a FROM clause, and what has been joined to it."""

    def __init__(self, alias: str, entity: str, writer: _Writer, parent: _Scope | None = None) -> None:
        self.alias, self.entity, self.writer = alias, entity, writer
        self.model = writer.tables.entities[entity]
        self.ones: dict[Edge, _Scope] = {}
        self.rollups: dict[tuple[str, Path], _Rollups] = {}
        self.joins: list[str | _Rollups] = parent.joins if parent else []

    @property
    def workflow_end(self) -> str:
        """The row's end of `workflow_pairs`."""
        return workflow_end(self.model, {name: f"{self.alias}.{quote(name)}" for name in self.model.key})

    def joins_sql(self) -> str:
        return "".join(join if isinstance(join, str) else join.sql() for join in self.joins)

    def walk(self, path: Path) -> _Scope:
        """The scope at the end of `one` edges, left-joined where it is not yet."""
        scope = self
        for edge in path:
            if edge not in scope.ones:
                inner = _Scope(self.writer.alias(), edge.target, self.writer, scope)
                on = equal(inner.alias, edge.target_columns, scope.alias, edge.source_columns)
                scope.joins.append(
                    f" LEFT JOIN {self.writer.tables.table(edge.target)} {inner.alias} ON {on}"
                )
                scope.ones[edge] = inner
            scope = scope.ones[edge]
        return scope

    def value(self, expression: Expr[Any, Any]) -> str:
        """SQL of an expression that starts from this scope."""
        match expression:
            case Literal_(value):
                return literal(value)
            case ColumnRef():
                return f"{self.walk(expression.path).alias}.{quote(expression.column)}"
            case Rollup():
                return self._rollup(expression)
            case Arithmetic(op, left, right):
                return f"({self._number(left)} {op} {self._number(right)})"
            case Comparison(op, left, right):
                kind = left.type.kind
                cast = (
                    f"::{left.type.sql}"
                    if isinstance(right, Literal_) and kind in ("timestamptz", "date", "uuid")
                    else ""
                )
                return f"({self.value(left)} {op} {self.value(right)}{cast})"
            case Logical(op, left, right):
                return f"({self.value(left)} {op} {self.value(right)})"
            case Coalesce(left, right):
                return f"coalesce({self.value(left)}, {self.value(right)})"
            case Negation(operand):
                return f"(NOT {self.value(operand)})"
            case NullTest(operand, is_null):
                return f"({self.value(operand)} IS {'' if is_null else 'NOT '}NULL)"
        raise TypeError(f"no SQL for {expression!r}")

    def _number(self, expression: Expr[Any, Any]) -> str:
        # bigint arithmetic could overflow where numeric cannot, and then one row would stop the batch
        text = self.value(expression)
        return f"{text}::numeric" if expression.type.kind == "int" else text

    def _rollup(self, rollup: Rollup[Any, Any]) -> str:
        ones = next(n for n, edge in enumerate(rollup.path) if edge.kind != "one")
        outer = self.walk(rollup.path[:ones])
        path = rollup.path[ones:]
        group = self.rollups.get((outer.alias, path))
        if group is None:
            group = self._group(outer, path)
            self.rollups[outer.alias, path] = group
            self.joins.append(group)
        inner = group.inner
        name = f"v{len(group.outputs)}"
        keep = f" FILTER (WHERE {inner.value(rollup.where)})" if rollup.where is not None else ""
        group.outputs.append(f"{_aggregate(rollup, inner, keep)} AS {name}")
        nothing = _OF_NOTHING.get(rollup.function) if group.parent else None
        return f"coalesce({group.alias}.{name}, {nothing})" if nothing else f"{group.alias}.{name}"

    def _group(self, outer: _Scope, path: Path) -> _Rollups:
        tables, writer = self.writer.tables, self.writer
        where, source, first, previous = "", "", "", outer
        for edge in path:
            scope = _Scope(writer.alias(), edge.target, writer)
            first = first or scope.alias
            table = f"{tables.table(edge.target)} {scope.alias}"
            if edge.kind == "workflow":
                pairs = writer.alias()
                at_source = f"{pairs}.source_key = {previous.workflow_end}"
                at_target = f"{scope.workflow_end} = {pairs}.target_key"
                subquery = f"{workflow_pairs(tables, edge.source, edge.target)} {pairs}"
                if not source:
                    source, where = f"{subquery} JOIN {table} ON {at_target}", at_source
                else:
                    source += f" JOIN {subquery} ON {at_source} JOIN {table} ON {at_target}"
            else:
                on = equal(scope.alias, edge.target_columns, previous.alias, edge.source_columns)
                if not source:
                    source, where = table, on
                else:
                    source += f" JOIN {table} ON {on}"
            previous = scope
        group = _Rollups(writer.alias(), previous, source, where)
        if writer.is_new and outer.alias == "r" and path in writer.kept:
            group.where += f" AND {writer.is_new}"
            return group
        edge = path[0]
        # Of touched roots, only those of the root itself are known beforehand.
        if writer.many and edge.kind == "many" and (not writer.touched or outer.alias == "r"):
            columns = [f"{first}.{quote(name)}" for name in edge.target_columns]
            group.parent = [
                (ours, f"{outer.alias}.{quote(theirs)}")
                for ours, theirs in zip(columns, edge.source_columns, strict=True)
            ]
            if writer.touched:
                keys = f"SELECT {columns_sql(edge.source_columns)} FROM {writer.touched}"
                group.only = f" WHERE ({', '.join(columns)}) IN ({keys})"
        return group


def _canonical(total: str, rollup: Rollup[Any, Any]) -> str:
    """What is kept by difference, without zeros at its end: how many there are would depend on rows that are gone."""
    whole = rollup.argument is None or rollup.argument.type.kind == "int"
    return total if whole else f"trim_scale({total})"


def difference_sql(rollup: Rollup[Any, Any], tables: Tables, alias: str, sign: str) -> str:
    """SQL of what row `alias` of the child adds to a count or a sum, times `sign`."""
    child = _Scope(alias, rollup.path[-1].target, _Writer(tables, None, many=False))
    value = sign
    if rollup.argument is not None:
        value = f"coalesce({sign} * {child.value(rollup.argument)}::numeric, 0)"
    if rollup.where is not None:
        value = f"CASE WHEN {child.value(rollup.where)} THEN {value} ELSE 0 END"
    return value


_OF_NOTHING = {"count": "0", "sum": "0", "list": "'[]'::jsonb"}
"""What a roll-up of no children is, unless it is null."""


def _aggregate(rollup: Rollup[Any, Any], inner: _Scope, keep: str) -> str:
    if rollup.function == "count":
        return f"count(*){keep}"
    assert rollup.argument is not None
    value = inner.value(rollup.argument)
    key = [f"{inner.alias}.{quote(name)}" for name in inner.model.key]
    match rollup.function:
        case "sum":
            return f"coalesce(sum({value}::numeric){keep}, 0)"
        case "min" | "max" if rollup.argument.type.kind != "uuid":
            return f"{rollup.function}({value}){keep}"
        case "min" | "max":
            order = f"{value} {'ASC' if rollup.function == 'min' else 'DESC'} NULLS LAST"
            return f"(array_agg({value} ORDER BY {order}){keep})[1]"
        case "latest":
            by = [inner.value(part) for part in rollup.by]
            order = ", ".join(
                [*(f"{part} DESC NULLS LAST" for part in by), *(f"{part} DESC" for part in key)]
            )
            return f"(array_agg({value} ORDER BY {order}){keep})[1]"
        case "list":
            order = ", ".join([*(f"{inner.value(part)} NULLS LAST" for part in rollup.by), *key])
            return f"coalesce(to_jsonb((array_agg({value} ORDER BY {order}){keep})[1:{rollup.limit}]), '[]')"
    raise TypeError(f"no SQL for {rollup.function}")


__all__ = ["Condition", "Tables", "difference_sql", "equal", "view_select", "workflow_end", "workflow_pairs"]
