"""Begins a new entity version with the rows of the live one, where the log has lost the events that made them."""

from __future__ import annotations

from typing import Any

import psycopg

from mesh_core.engine.errors import DeployRefused
from mesh_core.model.entity import EntityModel
from mesh_core.store.connections import connect
from mesh_core.store.tables import columns_sql, physical
from mesh_core.store.versions import VersionRow


def check_seed(live: VersionRow, model: EntityModel) -> None:
    """See that the live rows can be rows of the new version. Raises DeployRefused where they cannot."""
    before = EntityModel.from_json(live.declaration)
    old = {column.name: column for column in before.columns}
    wrong = [
        column.name
        for column in model.columns
        if (column.name in old and old[column.name].type.sql != column.type.sql)
        or (column.name not in old and not column.type.nullable and column.default is None)
        or (column.name in old and old[column.name].type.nullable and not column.type.nullable)
    ]
    if before.key != model.key or before.record_key != model.record_key:
        wrong = list(model.key)
    if wrong:
        raise DeployRefused(
            f"The live rows of {model.name} cannot be rows of its new version: {', '.join(wrong)} would lack values.",
            remedy="Let new columns be nullable or have a default, and keep keys and types; or deploy with "
            "--accept-truncated.",
        )


def seed(database_url: str, live: VersionRow, new: VersionRow) -> None:
    """Copy the live rows, and all that is remembered of their events. The barrier must be held.

    On a connection of its own: the snapshot in which views are filled has to see it.
    """
    with connect(database_url, "mesh build") as connection, connection.transaction():
        _copy(connection, live, new)


def _copy(connection: psycopg.Connection[Any], live: VersionRow, new: VersionRow) -> None:
    before, after = EntityModel.from_json(live.declaration), EntityModel.from_json(new.declaration)
    known = {column.name for column in before.columns}
    names = columns_sql([*(column.name for column in after.columns if column.name in known), "_partition"])
    connection.execute(f"TRUNCATE {physical(new.relation)}")  # the barrier may be tried again
    connection.execute(
        f"INSERT INTO {physical(new.relation)} ({names}) SELECT {names} FROM {physical(live.relation)}"
    )
    for table, columns in (
        ("sequences", "record_key, sequence"),
        ("recent_ids", 'topic, "partition", event_id, "offset"'),
        (
            "held_events",
            'topic, "partition", "offset", topic_id, status, record_key, reason, detail, key, value, edited, headers, '
            "timestamp, event_type, event_id, attempts, otherwise, counted, held_at",
        ),
    ):
        connection.execute(f"DELETE FROM mesh.{table} WHERE version_id = %s", (new.id,))
        connection.execute(
            f"INSERT INTO mesh.{table} (version_id, {columns}) SELECT %s, {columns} FROM mesh.{table} WHERE version_id = %s",
            (new.id, live.id),
        )
