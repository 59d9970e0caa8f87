"""Expressions over a row and what can be reached from it, typed by the entity they start from.

`Expr[E, T]` is a value of type T computed from a row of entity E. The nodes are frozen plain data: paths and
names, never classes, so that a view outlives the code that declared it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from mesh_core.model.errors import DeclarationError
from mesh_core.model.paths import Path
from mesh_core.model.types import NUMBERS, ColumnType

if TYPE_CHECKING:
    from mesh_core.model.entity import Entity

E = TypeVar("E", bound="Entity")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")
Number = int | Decimal | None


class Expr(Generic[E, T_co]):
    """A value of type T computed from a row of E."""

    __slots__ = ()

    @property
    def root(self) -> str | None:
        """The name of the entity that the expression starts from; None for a literal."""
        raise NotImplementedError

    @property
    def type(self) -> ColumnType:
        """What kind of column can hold the value, and whether it can be missing."""
        raise NotImplementedError

    def __add__(self: Expr[E, Number], other: Expr[E, Number] | int | Decimal) -> Expr[E, Decimal]:
        return Arithmetic("+", self, literal(other))

    def __radd__(self: Expr[E, Number], other: int | Decimal) -> Expr[E, Decimal]:
        return Arithmetic("+", literal(other), self)

    def __sub__(self: Expr[E, Number], other: Expr[E, Number] | int | Decimal) -> Expr[E, Decimal]:
        return Arithmetic("-", self, literal(other))

    def __rsub__(self: Expr[E, Number], other: int | Decimal) -> Expr[E, Decimal]:
        return Arithmetic("-", literal(other), self)

    def __mul__(self: Expr[E, Number], other: Expr[E, Number] | int | Decimal) -> Expr[E, Decimal]:
        return Arithmetic("*", self, literal(other))

    def __rmul__(self: Expr[E, Number], other: int | Decimal) -> Expr[E, Decimal]:
        return Arithmetic("*", literal(other), self)

    def __eq__(self, other: object) -> Condition[E]:  # type: ignore[override]  # it builds a condition
        return NullTest(self, True) if other is None else Comparison("=", self, literal(other))

    def __ne__(self, other: object) -> Condition[E]:  # type: ignore[override]  # it builds a condition
        return NullTest(self, False) if other is None else Comparison("<>", self, literal(other))

    def __lt__(self, other: object) -> Condition[E]:
        return Comparison("<", self, literal(other))

    def __le__(self, other: object) -> Condition[E]:
        return Comparison("<=", self, literal(other))

    def __gt__(self, other: object) -> Condition[E]:
        return Comparison(">", self, literal(other))

    def __ge__(self, other: object) -> Condition[E]:
        return Comparison(">=", self, literal(other))

    __hash__ = object.__hash__

    def is_null(self) -> Condition[E]:
        """Whether there is no value."""
        return NullTest(self, True)

    def is_not_null(self) -> Condition[E]:
        """Whether there is a value."""
        return NullTest(self, False)

    def or_else(self, value: Any) -> Expr[E, Any]:
        """The value, or `value` where there is none."""
        return Coalesce(self, literal(value))


class Condition(Expr[E, bool]):
    """An expression that is true or false; combine with & | ~."""

    __slots__ = ()

    @property
    def type(self) -> ColumnType:
        """What kind of column can hold the value, and whether it can be missing."""
        return ColumnType("bool", nullable=True)

    def __and__(self, other: Condition[E]) -> Condition[E]:
        return Logical("and", self, other)

    def __or__(self, other: Condition[E]) -> Condition[E]:
        return Logical("or", self, other)

    def __invert__(self) -> Condition[E]:
        return Negation(self)

    def __bool__(self) -> bool:
        raise DeclarationError(
            "A condition has no truth value in Python.", remedy="Combine with & | ~, not and/or/not."
        )


def literal(value: object) -> Expr[Any, Any]:
    """`value` as an expression. Raises DeclarationError for values that no column can hold."""
    if isinstance(value, Expr):
        return value
    if value is None or isinstance(value, bool | int | str | Decimal):
        return Literal_(value)
    raise DeclarationError(
        f"{value!r} cannot stand in an expression.", remedy="Use a column, a number, text or a bool."
    )


@dataclass(frozen=True, slots=True, eq=False)
class Literal_(Expr[Any, Any]):  # noqa: N801  # typing has the name
    """A constant."""

    value: bool | int | str | Decimal | None

    @property
    def root(self) -> str | None:
        """The name of the entity that the expression starts from; None for a literal."""
        return None

    @property
    def type(self) -> ColumnType:
        """What kind of column can hold the value, and whether it can be missing."""
        kinds: dict[Any, Any] = {
            bool: "bool",
            int: "int",
            str: "text",
            Decimal: "numeric",
            type(None): "text",
        }
        return ColumnType(kinds[type(self.value)], nullable=self.value is None)


@dataclass(frozen=True, slots=True, eq=False)
class ColumnRef(Expr[E, T_co]):
    """Column `column` of `entity`, reached over `path` (empty: the row itself)."""

    entity: str
    column: str
    column_type: ColumnType
    path: Path = ()

    @property
    def root(self) -> str:
        """The name of the entity that the expression starts from; None for a literal."""
        return self.path[0].source if self.path else self.entity

    @property
    def type(self) -> ColumnType:
        """What kind of column can hold the value, and whether it can be missing."""
        return self.column_type.as_nullable() if self.path else self.column_type

    def __repr__(self) -> str:
        return f"{self.entity}.{self.column}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KeyRef(ColumnRef[E, K]):
    """A column of an entity's key."""


def common_root(*parts: Expr[Any, Any]) -> str | None:
    """The entity that all `parts` start from. Raises DeclarationError if they differ."""
    roots = {part.root for part in parts} - {None}
    if len(roots) > 1:
        raise DeclarationError(
            f"An expression mixes {' and '.join(sorted(str(root) for root in roots))}.",
            remedy="Reach the other entity over an edge: edge[Other.column].",
        )
    return next(iter(roots), None)


class TwoSided:
    """What joins a left and a right expression."""

    __slots__ = ()
    left: Expr[Any, Any]
    right: Expr[Any, Any]

    @property
    def root(self) -> str | None:
        """The name of the entity that both sides start from; None for literals."""
        return common_root(self.left, self.right)


@dataclass(frozen=True, slots=True, eq=False)
class Arithmetic(TwoSided, Expr[E, Decimal]):
    """`left op right` on numbers."""

    op: Literal["+", "-", "*"]
    left: Expr[Any, Any]
    right: Expr[Any, Any]

    def __post_init__(self) -> None:
        common_root(self.left, self.right)
        for side in (self.left, self.right):
            if side.type.kind not in ("int", "numeric"):
                raise DeclarationError(
                    f"{side!r} is {side.type.kind}; arithmetic takes whole numbers and Decimals, "
                    "which never overflow."
                )

    @property
    def type(self) -> ColumnType:
        """What kind of column can hold the value, and whether it can be missing."""
        return ColumnType("numeric", self.left.type.nullable or self.right.type.nullable)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison(TwoSided, Condition[E]):
    """`left op right`, unknown where either is missing."""

    op: Literal["=", "<>", "<", "<=", ">", ">="]
    left: Expr[Any, Any]
    right: Expr[Any, Any]

    def __post_init__(self) -> None:
        common_root(self.left, self.right)
        left, right = self.left.type.kind, self.right.type.kind
        temporal = left in ("timestamptz", "date", "uuid") and isinstance(self.right, Literal_)
        if left != right and not (left in NUMBERS and right in NUMBERS) and not temporal:
            raise DeclarationError(
                f"{self.left!r} is {left} and {self.right!r} is {right}; they cannot be compared."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Logical(TwoSided, Condition[E]):
    """`left and right` or `left or right`."""

    op: Literal["and", "or"]
    left: Condition[Any]
    right: Condition[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Negation(Condition[E]):
    """Not `operand`."""

    operand: Condition[Any]

    @property
    def root(self) -> str | None:
        """The name of the entity that the expression starts from; None for a literal."""
        return self.operand.root


@dataclass(frozen=True, slots=True, eq=False)
class NullTest(Condition[E]):
    """Whether `operand` is missing, or is there."""

    operand: Expr[Any, Any]
    is_null_: bool

    @property
    def root(self) -> str | None:
        """The name of the entity that the expression starts from; None for a literal."""
        return self.operand.root


@dataclass(frozen=True, slots=True, eq=False)
class Coalesce(TwoSided, Expr[E, T_co]):
    """`left`, or `right` where there is none."""

    left: Expr[Any, Any]
    right: Expr[Any, Any]

    def __post_init__(self) -> None:
        common_root(self.left, self.right)
        left, right = self.left.type.kind, self.right.type.kind
        if left != right and not (left in NUMBERS and right in NUMBERS):
            raise DeclarationError(f"{self.left!r} is {left}, and the value instead is {right}.")

    @property
    def type(self) -> ColumnType:
        """What kind of column can hold the value, and whether it can be missing."""
        kind = self.right.type.kind if self.left.type.kind == "int" else self.left.type.kind
        return ColumnType(kind, self.right.type.nullable)
