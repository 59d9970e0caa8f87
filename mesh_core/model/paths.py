"""Edges as plain data, and paths along them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EdgeKind = Literal["one", "many", "workflow"]


@dataclass(frozen=True, slots=True)
class Edge:
    """How `target` is reached from `source` (names of entities, `service.entity`).

    `one`: target_columns are target's key. `many`: source_columns are source's key. `workflow`: no columns,
    the rows share a workflow.
    """

    kind: EdgeKind
    source: str
    source_columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


Path = tuple[Edge, ...]
