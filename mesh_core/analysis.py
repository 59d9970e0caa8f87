"""What notebooks import: a view as of a moment, as an Arrow table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from mesh_core.cli.surroundings import find_surroundings
from mesh_core.engine.replay import Only, Wishes, batches, declared_in, live_declaration, replayed
from mesh_core.log.moment import parse_moment
from mesh_core.log.position import Position
from mesh_core.store.connections import connect

if TYPE_CHECKING:
    import pyarrow as pa


def replay(
    view: str,
    as_of: Position | datetime | str | None = None,
    *,
    keys: Sequence[str] = (),
    workflow: UUID | None = None,
    declared: str | Path | None = None,
    accept_truncated: bool = False,
) -> pa.Table:
    """The rows of a view as they were, in order of their key; the mesh is the one that the settings name.

    `as_of` is a time or a day, in UTC where it has no zone, a position, either of them as text, or None: what serves now.
    `keys`, as URLs spell them, and the entries of `workflow` choose rows; `declared` is a Python file that declares the view
    otherwise than it serves. All rows are in memory in the end, numbers as exact decimals; the schema's metadata tell the
    position. Nothing that serves is touched.

    Raises UsageError, ReplayRefused where the log has lost what is asked for, DependencyUnavailable.

    Source: `mesh replay`, which writes files of views that are too large for memory.
    """
    mesh = find_surroundings()
    moment = parse_moment(as_of) if isinstance(as_of, str) and as_of != "now" else as_of
    wishes = Wishes(
        None if isinstance(moment, str) else moment,
        Only(tuple(keys), workflow),
        mesh.settings.replay_processes,
        mesh.settings.replay_disk,
        accept_truncated,
    )
    with connect(mesh.database_url, "mesh replay") as connection:
        plan = (
            declared_in(connection, Path(declared), view) if declared else live_declaration(connection, view)
        )
    with (
        replayed(mesh.database_url, mesh.history_driver(), plan, wishes) as found,
        batches(found) as reader,
    ):
        return reader.read_all()
