"""Roll-ups: one value over many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mesh_core.model.errors import DeclarationError
from mesh_core.model.expressions import Condition, E, Expr, T_co
from mesh_core.model.paths import Path
from mesh_core.model.types import NUMBERS, ColumnType

RollupFunction = Literal["count", "sum", "min", "max", "latest", "list"]


@dataclass(frozen=True, slots=True, eq=False)
class Rollup(Expr[E, T_co]):
    """A value over the rows at the end of `path`, which has at least one `many` (or workflow) edge.

    `argument`, `where` and `by` start from the last entity of the path. `by` orders `latest` and `list`;
    ties are broken by the child's key.
    """

    path: Path
    function: RollupFunction
    argument: Expr[Any, Any] | None
    where: Condition[Any] | None = None
    by: tuple[Expr[Any, Any], ...] = ()
    limit: int | None = None

    def __post_init__(self) -> None:
        child = self.path[-1].target
        for part in (self.argument, self.where, *self.by):
            if part is not None and part.root not in (None, child):
                raise DeclarationError(f"{self.function} over {child} is given a value of {part.root}.")
        if self.function == "sum" and self.argument is not None:
            if self.argument.type.kind == "float":
                raise DeclarationError(
                    "A sum of floats is refused: it would depend on the order of its rows.",
                    remedy="Declare the column as Decimal.",
                )
            if self.argument.type.kind not in NUMBERS:
                raise DeclarationError(f"sum takes numbers, not {self.argument.type.kind}.")
        if self.function in ("min", "max") and self.argument and self.argument.type.kind in ("bool", "json"):
            raise DeclarationError(f"{self.function} does not order {self.argument.type.kind} values.")
        if any(part.type.kind == "json" for part in self.by):
            raise DeclarationError(f"{self.function} cannot order by a json column.")

    @property
    def root(self) -> str:
        """The name of the entity that the expression starts from; None for a literal."""
        return self.path[0].source

    @property
    def type(self) -> ColumnType:
        """What kind of column can hold the value, and whether it can be missing."""
        match self.function:
            case "count":
                return ColumnType("int")
            case "sum":
                return ColumnType("numeric")
            case "list":
                return ColumnType("json")
            case _:
                assert self.argument is not None
                return self.argument.type.as_nullable()
