"""Filters, orders and selections as Python evaluates them on rows in memory: slow, and by another hand than SQL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cmp_to_key
from typing import Any
from uuid import UUID

Row = Mapping[str, Any]
Truth = bool | None
"""None is SQL's unknown."""


@dataclass(frozen=True)
class Place:
    """A column, or a place in a JSON column; `as_text` is how `->>` has it."""

    column: str
    path: tuple[str, ...] = ()
    as_text: bool = False

    @property
    def text(self) -> str:
        if not self.path:
            return self.column
        steps = [_step(part) for part in self.path]
        arrows = ["->"] * (len(steps) - 1) + ["->>" if self.as_text else "->"]
        return self.column + "".join(arrow + step for arrow, step in zip(arrows, steps, strict=True))

    @property
    def is_json(self) -> bool:
        return self.column == "extra" and not self.as_text

    def value(self, row: Row) -> Any:
        """MISSING where there is none."""
        found = row[self.column]
        if found is None:
            return MISSING
        for part in self.path:
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif (
                isinstance(found, list)
                and re.fullmatch(r"-?\d+", part)
                and -len(found) <= int(part) < len(found)
            ):
                found = found[int(part)]
            else:
                return MISSING
        if self.as_text:
            return MISSING if found is None else _as_text(found)
        return found


MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


@dataclass(frozen=True)
class Check:
    """`place operator value`; `wire` is how a client spells the value."""

    place: Place
    operator: str
    value: Any
    wire: str
    negated: bool = False

    def parameter(self) -> tuple[str, str]:
        return self.place.text, f"{'not.' * self.negated}{self.operator}.{self._plain()}"

    def nested(self) -> str:
        return f"{self.place.text}.{'not.' * self.negated}{self.operator}.{self._quoted()}"

    def holds(self, row: Row) -> Truth:
        return _not(self._holds(row)) if self.negated else self._holds(row)

    def _plain(self) -> str:
        return f"({','.join(map(_quote, json.loads(self.wire)))})" if self.operator == "in" else self.wire

    def _quoted(self) -> str:
        as_it_is = self.operator == "in" or (self.place.is_json and self.operator != "is")
        return self._plain() if as_it_is else _quote(self.wire)

    def _holds(self, row: Row) -> Truth:
        found = self.place.value(row)
        match self.operator:
            case "is":
                if self.value == "not_null":
                    return found is not MISSING
                if isinstance(self.value, bool):  # from the values of a column, as any other operator's
                    return found is self.value
                keywords = {"null": MISSING, "true": True, "false": False, "unknown": MISSING}
                return found is keywords[self.value]
            case "isdistinct":
                return found is MISSING or not equal(found, self.value)
            case "in" if not self.value:
                return False
        if found is MISSING:
            return None
        match self.operator:
            case "eq":
                return equal(found, self.value)
            case "neq":
                return not equal(found, self.value)
            case "in":
                return any(equal(found, each) for each in self.value)
            case "like" | "ilike":
                return _like(found, self.value, folded=self.operator == "ilike")
            case "cs":
                return contains(found, self.value, outermost=True)
        order = compare(found, self.value)
        return {"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0}[self.operator]


@dataclass(frozen=True)
class Group:
    """All of the parts, or any."""

    operator: str
    parts: tuple[Check | Group, ...]
    negated: bool = False

    def parameter(self) -> tuple[str, str]:
        return f"{'not.' * self.negated}{self.operator}", self._inside()

    def nested(self) -> str:
        return f"{'not.' * self.negated}{self.operator}{self._inside()}"

    def holds(self, row: Row) -> Truth:
        each = [part.holds(row) for part in self.parts]
        if self.operator == "and":
            held: Truth = False if False in each else None if None in each else True
        else:
            held = True if True in each else None if None in each else False
        return _not(held) if self.negated else held

    def _inside(self) -> str:
        return f"({','.join(part.nested() for part in self.parts)})"


@dataclass(frozen=True)
class By:
    """One part of an order."""

    place: Place
    direction: str = ""
    nulls: str = ""

    @property
    def text(self) -> str:
        return self.place.text + "".join(f".{each}" for each in (self.direction, self.nulls) if each)


def ordered(rows: Sequence[Row], order: Sequence[By], key: str) -> list[Row]:
    """The rows in this order, then by the key in the direction of the last part."""
    descending = bool(order) and order[-1].direction == "desc"
    parts = [*order, By(Place(key), "desc" if descending else "asc")]

    def by(one: Row, other: Row) -> int:
        for part in parts:
            backwards = part.direction == "desc"
            nulls_first = part.nulls == "nullsfirst" if part.nulls else backwards
            left, right = part.place.value(one), part.place.value(other)
            if left is MISSING or right is MISSING:
                result = (left is not MISSING) - (right is not MISSING)
                result = result if nulls_first else -result
            else:
                result = compare(left, right) * (-1 if backwards else 1)
            if result:
                return result
        return 0

    return sorted(rows, key=cmp_to_key(by))


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1; texts by their bytes."""
    if isinstance(left, str):
        left, right = left.encode(), right.encode()
    elif isinstance(left, UUID):
        left, right = left.bytes, right.bytes
    return bool(left > right) - bool(left < right)


def equal(left: Any, right: Any) -> bool:
    """As jsonb and columns have it: a truth is no number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return (type(left) is type(right) and left == right) or (_numbers(left, right) and left == right)


def contains(left: Any, right: Any, *, outermost: bool = False) -> bool:
    """jsonb's @>."""
    if isinstance(left, dict) and isinstance(right, dict):
        return all(name in left and contains(left[name], right[name]) for name in right)
    if isinstance(left, list) and isinstance(right, list):
        return all(any(contains(one, each) for one in left) for each in right)
    if outermost and isinstance(left, list) and not isinstance(right, dict | list):
        return any(equal(one, right) for one in left)
    return not isinstance(left, dict | list) and equal(left, right)


def as_json(value: Any) -> Any:
    """A value as an answer has it."""
    if value is MISSING:
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _numbers(left: Any, right: Any) -> bool:
    return isinstance(left, int | float | Decimal) and isinstance(right, int | float | Decimal)


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _like(text: str, pattern: str, *, folded: bool) -> bool:
    parts: list[str] = []
    fold: Callable[[str], str] = _fold if folded else str
    letters = iter(fold(pattern))
    for letter in letters:
        if letter == "\\":
            parts.append(re.escape(next(letters)))
        else:
            parts.append({"%": ".*", "*": ".*", "_": "."}.get(letter, re.escape(letter)))
    return re.fullmatch("".join(parts), fold(text), re.DOTALL) is not None


def _fold(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _step(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_]+", part) else _always(part)


def _quote(text: str) -> str:
    return text if re.fullmatch(r"[^,()\"\\]+", text) else _always(text)


def _always(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
