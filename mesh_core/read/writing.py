"""From conditions and orders to SQL. Names are those of declared columns, and quoted; what a client sent is bound."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mesh_core.model.types import SQL_TYPES, ColumnKind
from mesh_core.read.conditions import Comparison, Condition, Junction, Reference
from mesh_core.read.queries import Order, Place

_SIMPLE = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_STARS = re.compile(r"(\\.)|\*", re.DOTALL)
_KEYWORDS = {
    "null": "IS NULL",
    "not_null": "IS NOT NULL",
    "true": "IS TRUE",
    "false": "IS FALSE",
    "unknown": "IS UNKNOWN",
}


def _pattern(text: str) -> str:
    """A pattern as LIKE has it: `*` is any text, unless a backslash is before it."""
    return _STARS.sub(lambda found: found[1] or "%", text)


class Writer:
    """Gathers the values that its SQL has placeholders for, in their order."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def reference(self, reference: Reference) -> str:
        """A column, or what is at a place in it."""
        column = f'"{reference.column}"'
        if not reference.path:
            return column
        self.values.append(list(reference.path))
        if reference.kind == "text":
            return f'({column} #>> %s::text[]) COLLATE "C"'
        return f"({column} #> %s::text[])"

    def bound(self, kind: ColumnKind, value: object) -> str:
        """A placeholder for a value of this kind."""
        self.values.append(value)
        return f"%s::{SQL_TYPES[kind]}"

    def condition(self, condition: Condition) -> str:
        """Whether a row meets it."""
        if isinstance(condition, Junction):
            text = f"({f' {condition.operator.upper()} '.join(self.condition(part) for part in condition.parts)})"
        else:
            text = self._comparison(condition)
        return f"(NOT {text})" if condition.negated else text

    def _comparison(self, comparison: Comparison) -> str:
        left, kind, value = self.reference(comparison.reference), comparison.reference.kind, comparison.value
        match comparison.operator:
            case "is":
                assert isinstance(value, str)
                return f"({left} {_KEYWORDS[value]})"
            case "in":
                self.values.append(list(value))
                return f"({left} = ANY(%s::{SQL_TYPES[kind]}[]))"
            case "like" | "ilike" as operator:
                assert isinstance(value, str)
                return f"({left} {operator.upper()} {self.bound('text', _pattern(value))})"
            case "isdistinct":
                return f"({left} IS DISTINCT FROM {self.bound(kind, value)})"
            case "cs":
                return f"({left} @> {self.bound('json', value)})"
            case operator:
                return f"({left} {_SIMPLE[operator]} {self.bound(kind, value)})"

    @staticmethod
    def order(order: Sequence[Order], names: Sequence[str], *, backwards: bool) -> str:
        """ORDER BY's list of these names, the other way round if it is `backwards`."""
        parts = []
        for name, part in zip(names, order, strict=True):
            direction = "DESC" if part.descending != backwards else "ASC"
            nulls = "FIRST" if part.nulls_first != backwards else "LAST"
            parts.append(f"{name} {direction} NULLS {nulls}")
        return ", ".join(parts)

    def beyond(self, order: Sequence[Order], place: Place, way: Way) -> str:
        """Whether a row comes after a place in this order, in one way; before it, going backwards."""
        if way.then == "row":
            names = ", ".join(self.reference(part.reference) for part in order)
            operator = "<" if order[0].descending != place.backwards else ">"
            pairs = zip(order, place.values, strict=True)
            values = ", ".join(self.bound(part.reference.kind, value) for part, value in pairs)
            return f"(({names}) {operator} ({values}))"
        pairs = zip(order[: way.same], place.values, strict=False)
        conditions = [self._same(part, value) for part, value in pairs]
        part, value = order[way.same], place.values[way.same]
        name = self.reference(part.reference)
        if way.then == "beyond":
            operator = "<" if part.descending != place.backwards else ">"
            conditions.append(f"{name} {operator} {self.bound(part.reference.kind, value)}")
        else:
            conditions.append(f"{name} IS {'NULL' if way.then == 'null' else 'NOT NULL'}")
        return f"({' AND '.join(conditions)})"

    def _same(self, part: Order, value: str | None) -> str:
        name = self.reference(part.reference)
        return f"{name} IS NULL" if value is None else f"{name} = {self.bound(part.reference.kind, value)}"


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which rows are beyond a place: equal in the first parts of the order, then differing.

    `row` is the comparison of all parts at once. Each is a range of one index, so it is found however far the place is;
    all of them joined by OR would not be.
    """

    same: int
    then: Literal["row", "beyond", "null", "present"]


def ways_beyond(order: Sequence[Order], place: Place, nullable: Callable[[Reference], bool]) -> list[Way]:
    """All ways, which have no row in common."""
    plain = None not in place.values and not any(nullable(part.reference) for part in order)
    if plain and len({part.descending for part in order}) == 1:
        return [Way(0, "row")]
    ways: list[Way] = []
    for number, (part, value) in enumerate(zip(order, place.values, strict=True)):
        nulls_beyond = part.nulls_first == place.backwards
        if value is not None:
            ways.append(Way(number, "beyond"))
            if nulls_beyond and nullable(part.reference):
                ways.append(Way(number, "null"))
        elif not nulls_beyond:
            ways.append(Way(number, "present"))
    return ways
