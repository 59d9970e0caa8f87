"""The record of every deploy: its plan, how far its builds are, what it proved, how it ended."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from mesh_core.errors import DependencyUnavailable, MeshError
from mesh_core.store.versions import VersionRow

LOCK = 0x6465706C  # "depl"; a session lock, so that whoever changes versions follows one another
WAITING = 0x77616974  # "wait"; with the number of a deploy, a session lock of who waits to begin it
STATE = f"""CASE
    WHEN state = 'running' AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid, objid, objsubid) = (0, {LOCK}, 1)) THEN 'interrupted'
    WHEN state = 'waiting' AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid, objid, objsubid) = ({WAITING}, deploys.id, 2)) THEN 'interrupted'
    ELSE state END"""
"""How a row of mesh.deploys is: who deploys, or waits to, holds a lock as long as it lives; without it it was killed."""
Ending = Literal["done", "refused", "failed", "interrupted"]
SMALL = 10_000
"""Events or rows up to which a build takes as long as any: what it takes per event shows in larger ones only."""


@dataclass(frozen=True)
class Record:
    """One row of mesh.deploys, while its deploy runs."""

    connection: psycopg.Connection[Any]
    id: int

    def build(self, row: VersionRow, total: int | None) -> None:
        """A version is being filled, with `total` events or rows."""
        self.connection.execute(
            "INSERT INTO mesh.builds (version_id, deploy_id, kind, name, total) VALUES (%s, %s, %s, %s, %s)",
            (row.id, self.id, row.kind, row.name, total),
        )

    def done(self, ids: Sequence[int], done: int, *, finished: bool = False) -> None:
        """So much is done of these builds."""
        self.connection.execute(
            "UPDATE mesh.builds SET done = %s, updated_at = clock_timestamp(), "
            "finished_at = CASE WHEN %s THEN clock_timestamp() END WHERE version_id = ANY(%s)",
            (done, finished, list(ids)),
        )

    def end(self, state: Ending, proofs: Sequence[Mapping[str, Any]], detail: str | None = None) -> None:
        """The deploy has ended."""
        self.connection.execute(
            "UPDATE mesh.deploys SET state = %s, proofs = %s, detail = %s, finished_at = clock_timestamp() WHERE id = %s",
            (state, Jsonb(list(proofs)), detail, self.id),
        )

    def fail_unless_ended(self, error: BaseException) -> None:
        """The deploy has ended by this error, perhaps before it began; nothing where that is recorded already."""
        row = self.connection.execute("SELECT state FROM mesh.deploys WHERE id = %s", (self.id,)).fetchone()
        if row is not None and row[0] in ("waiting", "running"):
            self.fail(error)

    def fail(self, error: BaseException, proofs: Sequence[Mapping[str, Any]] = ()) -> None:
        """The deploy has ended by this error."""
        state: Ending = "failed" if isinstance(error, Exception) else "interrupted"
        if isinstance(error, MeshError) and not isinstance(error, DependencyUnavailable):
            state = "refused"
        self.end(state, proofs, str(error) or type(error).__name__)


def announce(connection: psycopg.Connection[Any], started_by: str) -> int:
    """Record that a deploy is to begin; its number. It is taken for interrupted once the connection is closed."""
    with connection.transaction():
        row = connection.execute(
            "INSERT INTO mesh.deploys (state, plan, started_by) VALUES ('waiting', '[]', %s) RETURNING id",
            (started_by,),
        ).fetchone()
        assert row is not None
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (WAITING, row[0]))
    return int(row[0])


def begin(
    connection: psycopg.Connection[Any], plan: Sequence[Mapping[str, Any]], announced: int | None = None
) -> Record:
    """Record that a deploy begins, the one that was announced if any.

    Nobody else may be deploying: what still runs was interrupted.
    """
    connection.execute(
        "UPDATE mesh.deploys SET state = 'interrupted', finished_at = clock_timestamp() WHERE state = 'running'"
    )
    if announced is not None:
        connection.execute(
            "UPDATE mesh.deploys SET state = 'running', plan = %s WHERE id = %s",
            (Jsonb(list(plan)), announced),
        )
        return Record(connection, announced)
    row = connection.execute(
        "INSERT INTO mesh.deploys (state, plan, started_by) VALUES ('running', %s, %s) RETURNING id",
        (Jsonb(list(plan)), _who()),
    ).fetchone()
    assert row is not None
    return Record(connection, int(row[0]))


def _who() -> str:
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run as a user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True)
class Pace:
    """How long builds of a kind took: the small ones in seconds, the large ones in events or rows a second."""

    small: float | None
    rate: float | None

    def seconds(self, amount: int) -> float | None:
        """About how long a build of so many events or rows takes; None where none such was measured."""
        if amount < SMALL:
            return self.small
        return amount / self.rate if self.rate else None


def paces(connection: psycopg.Connection[Any]) -> dict[str, Pace]:
    """What the newest finished builds took, by kind."""
    rows = connection.execute(
        "SELECT kind, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE done < %(small)s), "
        "sum(done) FILTER (WHERE done >= %(small)s)::float8 / sum(seconds) FILTER (WHERE done >= %(small)s) "
        "FROM (SELECT kind, done, greatest(extract(epoch FROM finished_at - started_at)::float8, 0.001) AS seconds, "
        "row_number() OVER (PARTITION BY kind, done < %(small)s ORDER BY finished_at DESC) AS age FROM mesh.builds "
        "WHERE finished_at IS NOT NULL) AS newest WHERE age <= 20 GROUP BY kind",
        {"small": SMALL},
    ).fetchall()
    return {kind: Pace(small, rate) for kind, small, rate in rows}
