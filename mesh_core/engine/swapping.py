"""Swaps of versions under the barrier: short waits for locks, tried again as a whole, and clear refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.errors import DeadlockDetected, DependentObjectsStillExist, LockNotAvailable

from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.recounting import recount
from mesh_core.store import checkpoints, deploys, tables, versions
from mesh_core.store.connections import connect
from mesh_core.store.deploys import LOCK
from mesh_core.store.schemas import DATA, READ
from mesh_core.store.versions import VersionRow

LOCK_TIMEOUT_MS = 2000
ATTEMPTS = 5
PAUSE_SECONDS = 0.5
CLOSING_SECONDS = 1.0


def barrier(connection: psycopg.Connection[Any], steps: Callable[[], None]) -> None:
    """Run `steps` in one transaction under the barrier, which waits LOCK_TIMEOUT_MS for any other lock.

    It is tried ATTEMPTS times; whoever waits behind its locks goes on between two attempts. Raises DeployRefused that
    names who holds them, or which views of others depend on what would go; nothing is done then.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with connection.transaction(), connection.cursor() as cursor:
                # The barrier: nobody else commits a batch until the new versions are live. Batches end by themselves.
                checkpoints.lock_live(cursor)
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                steps()
            return
        except (LockNotAvailable, DeadlockDetected) as error:
            if attempt == ATTEMPTS:
                raise DeployRefused(
                    f"The swap waited {ATTEMPTS} times for a lock and did not get it. {_holders(connection)}",
                    remedy="End these sessions, or wait for them, then deploy again; what serves is untouched.",
                ) from error
            time.sleep(PAUSE_SECONDS)
        except DependentObjectsStillExist as error:
            raise DeployRefused(
                f"Views that are not of the mesh depend on what this deploy replaces: {_details(error)}.",
                remedy="Drop them, deploy, then make them again; or keep the columns and add new ones at the end.",
            ) from error


def alone(connection: psycopg.Connection[Any], progress: Callable[[str], None] | None) -> None:
    """Wait until nobody else changes versions, then keep them from it until the connection is closed.

    Asked again and again: who waits in one statement has a snapshot, and whoever builds an index waits for those.
    Without `progress` nobody is waited for, but for a moment: a connection that was closed keeps the lock until Postgres
    has noticed. Raises DeployRefused that names who is at it.
    """
    said, waited = False, 0.0
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
        if row and row[0]:
            return
        if progress is None and waited < CLOSING_SECONDS:
            time.sleep(0.05)
            waited += 0.05
            continue
        if progress is None:
            raise DeployRefused(
                f"Versions are being changed by {_deployer(connection)}.",
                remedy="Wait for it, or end it with Ctrl-C, which leaves what serves as it is; then try again.",
            )
        if not said:
            progress(f"waiting for {_deployer(connection)}")
            said = True
        time.sleep(PAUSE_SECONDS)


def _deployer(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute(
        "SELECT pid, application_name, extract(epoch FROM clock_timestamp() - backend_start)::int FROM pg_locks "
        "JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND objid = %s AND objsubid = 1 AND granted",
        (LOCK,),
    ).fetchone()
    return f"{row[1]} (pid {row[0]}, since {row[2]} s)" if row else "another deploy"


@dataclass(frozen=True)
class Swap:
    """Versions that are kept up take the place of the live ones of their names, which become `previous`."""

    connection: psycopg.Connection[Any]
    rows: Sequence[VersionRow]

    def run(self) -> None:
        """Swap; the barrier must be held."""
        live = {
            (row.kind, row.name): row for row in versions.version_rows(self.connection) if row.state == "live"
        }
        pairs = [(live.get((row.kind, row.name)), row) for row in self.rows]
        # What had nothing to replace has been counted since it joined.
        counting = [(old.id, new.id) for old, new in pairs if new.kind == "entity" and old is not None]
        recount(self.connection, counting, [row.id for row in live.values()])
        versions.set_state(self.connection, [old.id for old, _ in pairs if old], "previous")
        versions.set_state(self.connection, [new.id for _, new in pairs], "live")
        columns = {new.id: [column.name for column in new.model.columns] for new in self.rows}
        for new in self.rows:
            tables.create_read_view(self.connection, new.relation, columns[new.id])
        for new in self.rows:  # last of all, since readers of the stable names wait from here on
            tables.swap_stable_name(self.connection, new.stem, new.relation, columns[new.id])


def rollback(database_url: str) -> list[VersionRow]:
    """Let the previous versions serve again; what served until now is kept up as they were. Which now serve.

    Raises DeployRefused when there are none, and while somebody else deploys: what is previous would be other versions
    after that.
    """
    with connect(database_url, "mesh rollback") as connection:
        alone(connection, None)
        previous = [row for row in versions.version_rows(connection) if row.state == "previous"]
        if not previous:
            raise DeployRefused(
                "There is no previous version to go back to.",
                remedy="Previous versions are kept from a deploy until the next one, or until mesh prune.",
            )

        def steps() -> None:
            Swap(connection, previous).run()
            versions.raise_generation(connection)

        back = [{"kind": row.kind, "name": row.name, "change": "rolled back"} for row in previous]
        record = deploys.begin(connection, back)
        try:
            barrier(connection, steps)
        except BaseException as error:
            with suppress(psycopg.OperationalError):
                record.fail(error)
            raise
        record.end("done", (), "rolled back")
        return previous


def _holders(connection: psycopg.Connection[Any]) -> str:
    """Sessions that have had locks on read models for longer than an attempt, for people."""
    rows = connection.execute(
        "SELECT DISTINCT pid, coalesce(nullif(application_name, ''), 'unnamed'), usename, "
        "coalesce(state, ''), extract(epoch FROM clock_timestamp() - xact_start)::int "
        "FROM pg_locks JOIN pg_class ON pg_class.oid = relation JOIN pg_stat_activity USING (pid) "
        "WHERE relnamespace::regnamespace::text = ANY(%s) AND granted AND pid <> pg_backend_pid() "
        "AND xact_start < clock_timestamp() - %s * interval '1 ms' ORDER BY 5 DESC LIMIT 10",
        ([DATA, READ], LOCK_TIMEOUT_MS),
    ).fetchall()
    said = [f"pid {pid} ({name}, role {role}, {state} for {age} s)" for pid, name, role, state, age in rows]
    return f"It is held by {', '.join(said)}." if said else "Who held it has just let go."


def _details(error: psycopg.Error) -> str:
    return "; ".join((error.diag.message_detail or str(error)).splitlines())
