"""Counts and sums that are kept by difference: what a row contributes now less what it contributed before.

So one more order of a customer with a million of them costs as much as their first. It is done of children of the root
itself, for values in the child's own row. Where another roll-up goes over the same edge, the children are read anyway,
and all are computed anew.

Why a kept column is what its definition gives after every commit. It depends on the children that name the root's key,
and on nothing else. A root without a row in the view gets it from all its children, which are read after the view's
lock was taken. A row that is there was right after the last commit of whoever held the lock. Since then this
transaction has changed children, and no other has whose changes it can see: that one would have had to take the lock
before it committed. And every change of a child that matters is in the touched table, with the values of before and
after. What the fan-out queue names is wrong in other columns only: a child of the root reaches one root, and so is
never queued.

A version that is being filled, and roots that are drained, are computed anew from all children.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh_core.model.paths import Path
from mesh_core.model.rollups import Rollup
from mesh_core.model.view_model import ViewModel, references


@dataclass(frozen=True)
class Kept:
    """A column that is kept by difference. `name` is that of the difference in the table of touched root keys."""

    column: str
    rollup: Rollup[Any, Any]
    name: str

    @property
    def type(self) -> str:
        """The SQL type of the difference."""
        return "bigint" if self.rollup.function == "count" else "numeric"


def kept_columns(view: ViewModel) -> Mapping[Path, list[Kept]]:
    """What is kept by difference, by the edge to the children."""
    found: dict[Path, list[Kept]] = {}
    others: set[Path] = set()
    for number, column in enumerate(view.columns):
        match column.expression:
            case Rollup() as rollup if _can_be_kept(rollup):
                found.setdefault(rollup.path, []).append(Kept(column.name, rollup, f"_d{number}"))
            case None:
                pass
            case expression:
                others.update(path for path, name in references(expression) if not name)
    return {path: columns for path, columns in found.items() if path not in others}


def _can_be_kept(rollup: Rollup[Any, Any]) -> bool:
    direct = len(rollup.path) == 1 and rollup.path[0].kind == "many"
    own = all(path == rollup.path for path, _ in references(rollup))
    return direct and own and rollup.function in ("count", "sum")


def columns_read(columns: Iterable[Kept]) -> frozenset[str]:
    """Columns of the child that these are computed from."""
    return frozenset(name for kept in columns for _, name in references(kept.rollup) if name)
