"""Forgets versions that do not serve: first projectors let go of them under the barrier, then their tables go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.errors import DependentObjectsStillExist, LockNotAvailable

from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.recounting import recount
from mesh_core.engine.swapping import alone
from mesh_core.errors import UsageError
from mesh_core.model.catalog import Catalog
from mesh_core.store import checkpoints, replays, tables, versions
from mesh_core.store.connections import connect
from mesh_core.store.registrations import registered_catalog
from mesh_core.store.schemas import DATA
from mesh_core.store.versions import VersionRow
from mesh_core.store.view_writes import LOCK_SPACE

LOCK_TIMEOUT_MS = 2000


@dataclass(frozen=True)
class Pruned:
    """Versions and ownerless tables that went, or would go; `left` is what could not be dropped and why.

    `replays` are the views of interrupted replays.
    """

    rows: Sequence[VersionRow]
    orphans: Sequence[str]
    left: Sequence[str]
    replays: Sequence[str] = ()


def prune_all(
    database_url: str,
    catalog: Catalog,
    names: Collection[str] = (),
    progress: Callable[[str], None] = lambda line: None,
    *,
    dry_run: bool = False,
) -> Pruned:
    """Prune previous versions, what interrupted deploys and replays left, and live versions of `names`, which nobody declares.

    Waits for whoever deploys, which `progress` tells.

    Raises UsageError for a name that is declared, or that does not serve.
    """
    with connect(database_url, "mesh prune") as connection:
        alone(connection, progress)
        catalog = registered_catalog(connection, catalog)
        rows = versions.version_rows(connection)
        unused = [row for row in rows if row.state == "live" and row.name in names]
        for name in names:
            if name in catalog.entities or name in catalog.views:
                raise UsageError(
                    f"{name} is declared in the catalog.",
                    remedy="Take it from there first, or where it is registered: DELETE /v1/admin/views/NAME.",
                )
            if name not in {row.name for row in unused}:
                raise UsageError(f"Nothing of the name {name} serves.", remedy="See mesh status.")
        going = prunable(rows, idle(rows) | {row.id for row in unused})
        if blocked := [row.name for row in unused if row not in going]:
            raise UsageError(
                f"{', '.join(blocked)} is still read by a view that stays.", remedy="Prune that view, too."
            )
        if dry_run:
            return Pruned(going, orphans(connection), (), replays.interrupted(connection))
        try:
            unregister(connection, going)
        except (LockNotAvailable, DependentObjectsStillExist) as error:
            detail = "; ".join((error.diag.message_detail or str(error)).splitlines())
            raise DeployRefused(
                f"What would go is in use: {detail}.",
                remedy="End the sessions that read it, or drop what depends on it, then prune again.",
            ) from error
        owned = {row.relation for row in going}
        found = [name for name in orphans(connection) if name not in owned]
        return Pruned(going, found, drop_orphans(connection), replays.sweep(connection))


def idle(rows: Iterable[VersionRow]) -> set[int]:
    """Ids of versions that do not serve."""
    return {row.id for row in rows if row.state != "live"}


def prunable(rows: Iterable[VersionRow], going: Collection[int]) -> list[VersionRow]:
    """Of all versions those whose ids are `going`, but for entities that a view that stays reads."""
    rows = list(rows)
    read = {id_ for row in rows if row.id not in going for id_ in row.reads.values()}
    return [row for row in rows if row.id in going and row.id not in read]


def prune(connection: psycopg.Connection[Any], rows: Iterable[VersionRow]) -> list[str]:
    """Unregister these versions, then drop what no version owns; what could not be dropped, for people."""
    unregister(connection, rows)
    return drop_orphans(connection)


def unregister(connection: psycopg.Connection[Any], rows: Iterable[VersionRow]) -> None:
    """Let nobody know of these versions any more. Waits for batches in flight, and for whoever still fills them.

    Raises LockNotAvailable while a stable name that goes is being read, DependentObjectsStillExist if others' views do.
    """
    rows = list(rows)
    if not rows:
        return
    ids = [row.id for row in rows]
    with connection.transaction(), connection.cursor() as cursor:
        checkpoints.lock_live(cursor)
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")  # nobody commits meanwhile
        cursor.execute("DELETE FROM mesh.checkpoints WHERE build = ANY(%s)", (ids,))
        counted = versions.live_plan(connection).counted
        recount(connection, [(id_, None) for id_ in ids if id_ in counted], counted)
        for row in sorted(rows, key=lambda row: row.id):
            if row.kind == "view":  # whoever drains it has its lock, and looks for its version after
                cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_SPACE, row.id))
        for row in rows:
            if row.state == "live":
                cursor.execute(f'DROP VIEW IF EXISTS read."{row.stem}"')
        cursor.execute("DELETE FROM mesh.versions WHERE id = ANY(%s)", (ids,))
        for table in ("held_events", "sequences", "recent_ids", "fan_out"):
            cursor.execute(f"DELETE FROM mesh.{table} WHERE version_id = ANY(%s)", (ids,))
        versions.raise_generation(connection)


def orphans(connection: psycopg.Connection[Any]) -> list[str]:
    """Tables of versions that nobody knows of: what was interrupted or could not be dropped left them."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r' AND relname NOT IN "
        "(SELECT relation FROM mesh.versions UNION ALL SELECT prefix || relation FROM mesh.versions, "
        "unnest(%s::text[]) AS prefix WHERE state IN ('building', 'queued', 'joined')) "
        "AND relname ~ '^(queue_|bulk_)?[a-z][a-z0-9_]*__[0-9]+$' ORDER BY relname",
        (DATA, [tables.queue_name(""), tables.bulk_name("")]),
    ).fetchall()
    return [name for (name,) in rows]


def drop_orphans(connection: psycopg.Connection[Any]) -> list[str]:
    """Drop the tables of versions that nobody knows of; what could not be dropped and why, for people."""
    left = []
    for name in orphans(connection):
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                tables.drop_version(connection, name)
        except LockNotAvailable:
            left.append(f"{name} is still being read; the next mesh prune drops it.")
        except DependentObjectsStillExist as error:
            detail = "; ".join((error.diag.message_detail or str(error)).splitlines())
            left.append(
                f"{name} is read by what is not of the mesh: {detail}. Drop that, then run mesh prune."
            )
    return left
