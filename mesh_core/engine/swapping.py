"""The final transaction of a deploy: short waits for locks, tried again as a whole, and clear refusals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.errors import DeadlockDetected, DependentObjectsStillExist, LockNotAvailable

from mesh_core.engine.errors import DeployRefused
from mesh_core.store import checkpoints
from mesh_core.store.schemas import DATA, READ

LOCK_TIMEOUT_MS = 2000
ATTEMPTS = 5
PAUSE_SECONDS = 0.5


def swap(connection: psycopg.Connection[Any], steps: Callable[[], None]) -> None:
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
