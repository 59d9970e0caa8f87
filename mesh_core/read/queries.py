"""Checked queries: what is left of a request once nothing in it can be wrong. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh_core.model.view_model import CacheLevel
from mesh_core.read.conditions import Condition, Reference
from mesh_core.read.versions import Version

Count = Literal["exact", "planned", "estimated"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from: `sql` of a FROM clause with the `values` that it binds.

    `name` tells its cursors from those of others. `nullable` are columns that may have no value. `topics` feed it, and
    rows of the view `versions` may still have to follow a wide change. `cache` is for how long answers may be used again.
    `ruled`: whoever asks may see some of the rows only.
    """

    name: str
    sql: str
    topics: tuple[str, ...]
    versions: tuple[int, ...] = ()
    values: tuple[object, ...] = ()
    nullable: frozenset[str] = frozenset()
    cache: CacheLevel = None
    ruled: bool = False

    def is_nullable(self, reference: Reference) -> bool:
        """Whether there may be no value."""
        return bool(reference.path) or reference.column in self.nullable


@dataclass(frozen=True, slots=True)
class Output:
    """What a row of an answer has under `name`."""

    name: str
    reference: Reference


@dataclass(frozen=True, slots=True)
class Order:
    """One part of the order of rows."""

    reference: Reference
    descending: bool = False
    nulls_first: bool = False

    @property
    def text(self) -> str:
        """It as a cursor keeps it, with nothing left to defaults."""
        place = "".join(f"->{part}" for part in self.reference.path)
        direction, nulls = "desc" if self.descending else "asc", "first" if self.nulls_first else "last"
        return f"{self.reference.column}{place} {self.reference.kind} {direction} nulls {nulls}"


@dataclass(frozen=True, slots=True)
class Place:
    """Between two rows: after the one with these values in the order of a list, or before it, going backwards."""

    values: tuple[str | None, ...]
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Rows that meet all `conditions`, in an `order` in which no two are equal, from a place on, `limit` at most."""

    source: Source
    conditions: tuple[Condition, ...]
    outputs: tuple[Output, ...]
    order: tuple[Order, ...]
    limit: int
    place: Place | None = None
    count: Count | None = None

    @property
    def scope(self) -> tuple[str, ...]:
        """What a cursor is of: a place in another list, or in another order, is none in this one."""
        return (self.source.name, *(part.text for part in self.order))


@dataclass(frozen=True, slots=True)
class PointQuery:
    """The row with this key, its values in Postgres' spelling."""

    version: Version
    key: tuple[str, ...]
    outputs: tuple[Output, ...]
