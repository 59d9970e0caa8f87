"""Conditions on rows: what is left of filters once nothing in them can be wrong. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh_core.model.types import ColumnKind

Operator = Literal["eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "in", "is", "isdistinct", "cs"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A column, or a place in a JSON column that `path` leads to. `kind` is that of its values."""

    column: str
    kind: ColumnKind
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """`reference operator value`, the value in Postgres' spelling; of `is` it is a keyword, of `in` there are several."""

    reference: Reference
    operator: Operator
    value: str | tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Junction:
    """All of `parts`, or any of them."""

    operator: Literal["and", "or"]
    parts: tuple[Condition, ...]
    negated: bool = False


Condition = Comparison | Junction
