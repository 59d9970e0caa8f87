"""Checked queries: what is left of a request once nothing in it can be wrong. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh_core.read.versions import Version

Operator = Literal["eq"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A column compared with a value in Postgres' spelling."""

    column: str
    operator: Operator
    value: str


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page of rows in the order of the key, after `after` (a key's values) where it is given."""

    version: Version
    filters: tuple[Filter, ...]
    limit: int
    after: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PointQuery:
    """The row with this key, its values in Postgres' spelling."""

    version: Version
    key: tuple[str, ...]
