"""States of a row as JSON: whether two are the same, and how one became the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

State = Mapping[str, Any]
"""The values of a row's columns by name."""
Change = Literal["created", "changed", "deleted"]


def same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same to Postgres, to which 1.0 is 1, and true is not."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def difference(before: State | None, after: State | None) -> tuple[Change, dict[str, dict[str, Any]]]:
    """What became of a row, and of each column that is another: its value before and after. None is no row."""
    first, last = before or {}, after or {}
    columns = {
        name: {"before": first.get(name), "after": last.get(name)}
        for name in (*first, *(name for name in last if name not in first))
        if not same(first.get(name), last.get(name))
    }
    change: Change = "created" if before is None else "deleted" if after is None else "changed"
    return change, columns
