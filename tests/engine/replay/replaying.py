"""Replays of a mesh of a test, and what they come to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from mesh_core.engine.replay import Declared, Replayed, Wishes, live_declaration, replayed
from mesh_core.log.position import Position
from mesh_core.store.tables import physical
from tests.support.mesh import Mesh, checkpoints_of

Rows = dict[tuple[Any, ...], dict[str, Any]]


@contextmanager
def replaying(mesh: Mesh, view: str, declared: Declared | None = None, **wishes: Any) -> Iterator[Replayed]:
    """A view of a mesh, as it serves or as `declared`."""
    with psycopg.connect(mesh.database_url, autocommit=True) as connection:
        plan = declared or live_declaration(connection, view)
    with replayed(mesh.database_url, mesh.driver, plan, Wishes(**wishes)) as found:
        yield found


def rows_of(found: Replayed) -> Rows:
    """Its rows by key."""
    with found.connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"SELECT * FROM {physical(found.relation)}".encode()).fetchall()
    return {tuple(row[name] for name in found.view.key): row for row in rows}


def rows_at(mesh: Mesh, view: str, **wishes: Any) -> Rows:
    """The rows of a replay."""
    with replaying(mesh, view, **wishes) as found:
        return rows_of(found)


def left_behind(mesh: Mesh) -> list[Any]:
    """What replays have in the database."""
    tables = mesh.query("SELECT relname FROM pg_class WHERE relname ~ '^(queue_|bulk_)?past__'")
    control = [
        row
        for table, column in (("checkpoints", "build"), ("held_events", "version_id"), ("sequences", "version_id"),
                              ("recent_ids", "version_id"))
        for row in mesh.query(f"SELECT DISTINCT '{table}', {column} FROM mesh.{table} WHERE {column} < 0")
    ]  # fmt: skip
    return [*tables, *control, *mesh.query("SELECT id, state FROM mesh.replays")]


def live(mesh: Mesh, view: str = "client_overview") -> Rows:
    """The rows that serve."""
    return {key if isinstance(key, tuple) else (key,): row for key, row in mesh.rows(view).items()}


def position_now(mesh: Mesh) -> Position:
    """The live checkpoints."""
    return Position(checkpoints_of(mesh))
