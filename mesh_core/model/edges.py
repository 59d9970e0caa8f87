"""Edges: how a view reaches other entities. `one` by the other's key, `many` to children, `by_workflow`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar, overload

from mesh_core.model.entity import Entity, EntityModel
from mesh_core.model.errors import DeclarationError
from mesh_core.model.expressions import ColumnRef, Condition, Expr, KeyRef
from mesh_core.model.paths import Edge, Path
from mesh_core.model.rollups import Rollup, RollupFunction

R = TypeVar("R", bound=Entity)  # where the edge starts
C = TypeVar("C", bound=Entity)  # where it ends
D = TypeVar("D", bound=Entity)
K = TypeVar("K")
K2 = TypeVar("K2")
T = TypeVar("T")

MAX_LIST = 1000
Columns = tuple[ColumnRef[Any, Any], ...]


@dataclass(frozen=True, slots=True)
class One(Generic[R, C]):
    """At most one row of C for each row of R. `edge[C.column]` is that row's value, or null."""

    path: Path

    @overload
    def __getitem__(self, item: Many[C, D]) -> Many[R, D]: ...
    @overload
    def __getitem__(self, item: One[C, D]) -> One[R, D]: ...
    @overload
    def __getitem__(self, item: Expr[C, T]) -> Expr[R, T | None]: ...
    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, One | Many):
            return type(item)(_joined(self.path, item.path))
        if isinstance(item, ColumnRef):
            _same(self.path, item.root)
            return ColumnRef(item.entity, item.column, item.column_type, self.path + item.path)
        if isinstance(item, Rollup):
            _same(self.path, item.root)
            return Rollup(
                self.path + item.path, item.function, item.argument, item.where, item.by, item.limit
            )
        raise DeclarationError(
            f"An edge to {self.path[-1].target} reaches a column, a roll-up or an edge of it, not {item!r}."
        )


@dataclass(frozen=True, slots=True)
class Many(Generic[R, C]):
    """Any number of rows of C for each row of R, to be rolled up."""

    path: Path

    @overload
    def __getitem__(self, item: Many[C, D]) -> Many[R, D]: ...
    @overload
    def __getitem__(self, item: One[C, D]) -> Many[R, D]: ...
    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, One | Many):
            return Many(_joined(self.path, item.path))
        raise DeclarationError(
            f"{item!r} of many {self.path[-1].target} rows is not one value.",
            remedy="Roll it up: count, sum, min, max, latest or list.",
        )

    def count(self, *, where: Condition[C] | None = None) -> Expr[R, int]:
        """How many rows; 0 when there are none."""
        return Rollup(self.path, "count", None, where)

    def sum(
        self,
        value: Expr[C, Decimal] | Expr[C, Decimal | None] | Expr[C, int] | Expr[C, int | None],
        *,
        where: Condition[C] | None = None,
    ) -> Expr[R, Decimal]:
        """The exact sum; 0 when there are no rows. Floats are refused."""
        return Rollup(self.path, "sum", value, where)

    def min(self, value: Expr[C, T], *, where: Condition[C] | None = None) -> Expr[R, T | None]:
        """The least value, text in COLLATE "C"; null when there are none."""
        return Rollup(self.path, "min", value, where)

    def max(self, value: Expr[C, T], *, where: Condition[C] | None = None) -> Expr[R, T | None]:
        """The greatest value, text in COLLATE "C"; null when there are none."""
        return Rollup(self.path, "max", value, where)

    def latest(
        self, value: Expr[C, T], *, by: Expr[C, Any], where: Condition[C] | None = None
    ) -> Expr[R, T | None]:
        """The value of the row greatest in `by`, then in its key; never by arrival."""
        return Rollup(self.path, "latest", value, where, (by,))

    def list(
        self,
        value: Expr[C, Any],
        *,
        by: Expr[C, Any] | None = None,
        limit: int = 100,
        where: Condition[C] | None = None,
    ) -> Expr[R, list[Any]]:
        """At most `limit` values as a JSON array, in the order of `by`, then of the key."""
        if not 1 <= limit <= MAX_LIST:
            raise DeclarationError(f"A list of {limit} values is not between 1 and {MAX_LIST}.")
        return Rollup(self.path, "list", value, where, () if by is None else (by,), limit)


@overload
def one(source: Expr[R, K | None], target: KeyRef[C, K], /) -> One[R, C]: ...
@overload
def one(
    source: tuple[Expr[R, K | None], Expr[R, K2 | None]], target: tuple[KeyRef[C, K], KeyRef[C, K2]], /
) -> One[R, C]: ...
def one(source: Any, target: Any, /) -> One[Any, Any]:
    """The row of the target whose whole key equals the source column(s). Raises DeclarationError."""
    sources, targets = _columns("one", source), _columns("one", target)
    edge = edge_to_one(sources, targets, Entity.models[targets[0].entity])
    return One((*sources[0].path, edge))


def edge_to_one(sources: Columns, targets: Columns, target: EntityModel) -> Edge:
    """The edge by which columns lead to the row of `target` that has them for its key. Raises DeclarationError."""
    _check("one", sources, targets, target)
    return Edge("one", sources[0].entity, _names(sources), target.name, _names(targets))


@overload
def many(child: Expr[C, K] | Expr[C, K | None], parent: KeyRef[R, K], /) -> Many[R, C]: ...
@overload
def many(
    child: tuple[Expr[C, K | None], Expr[C, K2 | None]], parent: tuple[KeyRef[R, K], KeyRef[R, K2]], /
) -> Many[R, C]: ...
def many(child: Any, parent: Any, /) -> Many[Any, Any]:
    """The rows of the child whose column(s) hold the parent's whole key. Raises DeclarationError."""
    children, parents = _columns("many", child), _columns("many", parent)
    return Many((edge_to_many(children, parents, Entity.models[parents[0].entity]),))


def edge_to_many(children: Columns, parents: Columns, parent: EntityModel) -> Edge:
    """The edge by which the key of `parent` leads to the rows whose columns hold it. Raises DeclarationError."""
    _check("many", children, parents, parent)
    if any(column.path for column in children):
        raise DeclarationError(
            f"many({children!r}, …): the child's column is reached over an edge.",
            remedy="Compose edges instead: first[second].",
        )
    return Edge("many", parent.name, _names(parents), children[0].entity, _names(children))


def by_workflow(source: type[R], target: type[C]) -> Many[R, C]:
    """The rows of `target` that share a workflow with a row of `source`, each once."""
    return Many((edge_by_workflow(source.model, target.model),))


def edge_by_workflow(source: EntityModel, target: EntityModel) -> Edge:
    """The edge from one to the other over the workflows that they share. Raises DeclarationError."""
    for model in (source, target):
        if model.name != "mesh.workflow" and len(model.record_key) != len(model.key):
            raise DeclarationError(
                f"by_workflow: rows of {model.name} are made by each, so workflows know them by "
                f"their record key only.",
                remedy="Name the entity that has the record key.",
            )
        if any(model.column(name).type.kind == "date" for name in model.key):
            raise DeclarationError(f"by_workflow: {model.name} has a date in its key.")
    return Edge("workflow", source.name, (), target.name, ())


def _columns(what: str, given: Any) -> Columns:
    columns = given if isinstance(given, tuple) else (given,)
    for column in columns:
        if not isinstance(column, ColumnRef):
            raise DeclarationError(
                f"{what}: {column!r} is not a column.",
                remedy=f"For example {what}(Order.customer_id, Customer.customer_id).",
            )
    if len({(column.entity, column.path) for column in columns}) != 1:
        raise DeclarationError(f"{what}: {columns!r} are of different entities.")
    return columns


def _names(columns: Columns) -> tuple[str, ...]:
    return tuple(column.column for column in columns)


def _check(what: str, left: Columns, right: Columns, entity: EntityModel) -> None:
    """Whether `left` can meet `right`, which is to be the whole key of `entity`."""
    if any(column.path for column in right):
        raise DeclarationError(f"{what}: {right!r} must be columns of {entity.name} itself.")
    if _names(right) != entity.key:
        raise DeclarationError(
            f"{what}({left!r}, {right!r}): {', '.join(_names(right))} is not the whole key of "
            f"{entity.name}, which is ({', '.join(entity.key)}).",
            remedy="The second argument names the key, in order.",
        )
    if len(left) != len(right):
        raise DeclarationError(f"{what}: {len(left)} columns cannot meet {len(right)}.")
    for ours, theirs in zip(left, right, strict=True):
        if ours.column_type.kind != theirs.column_type.kind:
            raise DeclarationError(
                f"{what}: {ours!r} is {ours.column_type.kind} but {theirs!r} is {theirs.column_type.kind}."
            )


def _joined(first: Path, second: Path) -> Path:
    _same(first, second[0].source)
    return first + second


def _same(path: Path, entity: str | None) -> None:
    if entity is not None and path[-1].target != entity:
        raise DeclarationError(f"An edge ends at {path[-1].target}, but {entity} was asked of it.")


def rollup_functions() -> tuple[RollupFunction, ...]:
    """All roll-ups, for documentation and tests."""
    return ("count", "sum", "min", "max", "latest", "list")
