"""What whoever replays asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from mesh_core.errors import UsageError
from mesh_core.log.position import Position

DISK = 20 * 2**30
"""Bytes that the tables of a replay may take, unless somebody says otherwise."""


@dataclass(frozen=True)
class Only:
    """Rows that are wanted: those of `keys`, as URLs spell them, and those whose root is an entry of `workflow`."""

    keys: tuple[str, ...] = ()
    workflow: UUID | None = None

    @classmethod
    def parse(cls, texts: list[str] | tuple[str, ...]) -> Only:
        """From `key=…` and `workflow=…`. Raises UsageError."""
        keys: list[str] = []
        workflow: UUID | None = None
        for text in texts:
            what, _, value = text.partition("=")
            if what == "key" and value:
                keys.append(value)
            elif what == "workflow" and workflow is None:
                try:
                    workflow = UUID(value)
                except ValueError:
                    raise UsageError(f"{value!r} is no UUID.", remedy="Give the id of a workflow.") from None
            else:
                raise UsageError(
                    f"{text!r} says no rows that could be replayed alone.",
                    remedy="Give key=KEY, several times for several rows, or workflow=UUID once.",
                )
        return cls(tuple(keys), workflow)

    def __bool__(self) -> bool:
        return bool(self.keys) or self.workflow is not None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"keys": list(self.keys), "workflow": str(self.workflow) if self.workflow else None}


@dataclass(frozen=True)
class Wishes:
    """How to replay a view: as of a position or a time (None: as of what serves now), which rows, within which bounds.

    `processes` may read at once, and the tables may take `disk` bytes. Where the log has lost its beginning,
    `accept_truncated` builds from what is left.
    """

    as_of: Position | datetime | None = None
    only: Only = field(default_factory=Only)
    processes: int = 1
    disk: int = DISK
    accept_truncated: bool = False
