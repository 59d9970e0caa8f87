"""The state of a mesh as its database tells it: versions, builds, checkpoints, dead letters, what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from mesh_core.log.position import Position, TopicPartition
from mesh_core.model.view_model import ViewModel
from mesh_core.read.compiler import Statement
from mesh_core.read.database import Database
from mesh_core.read.errors import NotMigrated, ReadError, ReadUnavailable
from mesh_core.read.versions import LOAD, live_from
from mesh_core.store.deploys import STATE
from mesh_core.store.grants import central_problems


@dataclass(frozen=True)
class VersionStatus:
    """A version of an entity or a view that is not yet pruned."""

    kind: str
    name: str
    number: int
    state: str
    topics: list[str]
    created_at: datetime
    live_at: datetime | None
    fan_outs: int
    """Keys in its fan-out queue."""
    fan_out_since: datetime | None


@dataclass(frozen=True)
class CheckpointStatus:
    """A live checkpoint with its counters; consumed = applied + ignored + dead_lettered + parked."""

    topic: str
    partition: int
    next_offset: int
    consumed: int
    applied: int
    ignored: int
    dead_lettered: int
    parked: int
    event_time: datetime | None
    updated_at: datetime
    halted_reason: str | None


@dataclass(frozen=True)
class HeldStatus:
    """How many events of a topic are held (`dead` or `parked`) for a reason."""

    topic: str
    status: str
    reason: str
    events: int


@dataclass(frozen=True)
class BuildStatus:
    """A version that the deploy under way fills: `done` of `total` events or rows, unknown of a view.

    Rates are of the whole build so far; what cannot be known yet is None. `lag_events` are still to be read.
    """

    kind: str
    name: str
    number: int
    state: str
    done: int
    total: int | None
    percent: float | None
    events_per_second: float | None
    seconds_left: float | None
    lag_events: int | None
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class DeployStatus:
    """The deploy under way, else the last: `waiting`, `running`, `done`, `refused`, `failed` or `interrupted`.

    `detail` is why it did not succeed, or what it noticed.
    """

    id: int
    state: str
    started_by: str | None
    started_at: datetime
    finished_at: datetime | None
    changes: list[str]
    """What was new or changed, by name."""
    detail: str | None


@dataclass(frozen=True)
class MeshStatus:
    """All of it, of one snapshot."""

    generation: int
    versions: Sequence[VersionStatus]
    checkpoints: Sequence[CheckpointStatus]
    held: Sequence[HeldStatus]
    deploy: DeployStatus | None
    builds: Sequence[BuildStatus]
    grants: Sequence[str]
    """What is said centrally without effect, a sentence each."""

    @property
    def position(self) -> Position:
        """What the live versions have applied; compare it with Kafka's end offsets for the lag in events."""
        return Position(
            {TopicPartition(row.topic, row.partition): row.next_offset for row in self.checkpoints}
        )


_DEPLOY = f"""
SELECT * FROM (
  SELECT id, {STATE} AS state, started_by, started_at, finished_at, detail,
    ARRAY(SELECT step ->> 'name' FROM jsonb_array_elements(plan) AS step
      WHERE step ->> 'change' NOT IN ('unchanged', 'unused')) AS changes
  FROM mesh.deploys) AS d
ORDER BY state = 'running' DESC, id DESC LIMIT 1
"""
_BUILDS = """
SELECT *, (total - done) / events_per_second AS seconds_left FROM (
  SELECT builds.kind, builds.name, number, versions.state, done, total, started_at, updated_at, finished_at,
    100.0::float8 * done / nullif(total, 0) AS percent, total - done AS lag_events,
    nullif(done, 0)::float8 / nullif(extract(epoch FROM updated_at - started_at)::float8, 0) AS events_per_second
  FROM mesh.builds JOIN mesh.versions ON versions.id = version_id WHERE deploy_id = %s) AS b
ORDER BY kind, name
"""


def mesh_status(database_url: str) -> MeshStatus:
    """The status now. Raises ReadUnavailable or NotMigrated."""
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            found = connection.execute("SELECT value FROM mesh.generation WHERE id = 1").fetchone()
            with connection.cursor(row_factory=class_row(VersionStatus)) as cursor:
                versions = cursor.execute(
                    "SELECT kind, name, number, state, topics, created_at, live_at, "
                    "coalesce(fan_outs, 0) AS fan_outs, fan_out_since FROM mesh.versions LEFT JOIN (SELECT version_id, "
                    "count(*) AS fan_outs, min(noted_at) AS fan_out_since FROM mesh.fan_out GROUP BY version_id) AS f "
                    "ON f.version_id = versions.id ORDER BY kind, name, number"
                ).fetchall()
            with connection.cursor(row_factory=class_row(CheckpointStatus)) as cursor:
                checkpoints = cursor.execute(
                    "SELECT topic, partition, next_offset, consumed, applied, ignored, dead_lettered, "
                    "parked, event_time, updated_at, halted_reason FROM mesh.checkpoints WHERE build = 0 "
                    "ORDER BY topic, partition"
                ).fetchall()
            with connection.cursor(row_factory=class_row(HeldStatus)) as cursor:
                held = cursor.execute(
                    'SELECT topic, status, reason, count(DISTINCT (partition, "offset")) AS events '
                    "FROM mesh.held_events WHERE version_id IN (SELECT id FROM mesh.versions WHERE state = 'live') "
                    "GROUP BY topic, status, reason ORDER BY topic, status, reason"
                ).fetchall()
            with connection.cursor(row_factory=class_row(DeployStatus)) as cursor:
                deploy = cursor.execute(_DEPLOY).fetchone()
            builds: Sequence[BuildStatus] = ()
            if deploy is not None and deploy.state == "running":
                with connection.cursor(row_factory=class_row(BuildStatus)) as cursor:
                    builds = cursor.execute(_BUILDS, (deploy.id,)).fetchall()
            live = live_from(connection.execute(LOAD.encode()).fetchall())
            views = {
                name: each.model for name, each in live.views.items() if isinstance(each.model, ViewModel)
            }
            without_effect = central_problems(connection, live.declared, views)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        raise NotMigrated(remedy="Run mesh migrate, then mesh deploy.") from None
    except psycopg.OperationalError as error:
        raise ReadUnavailable(
            f"Postgres cannot be reached: {str(error).strip().splitlines()[0]}.",
            remedy="Check that Postgres runs and MESH_DATABASE_URL is right.",
        ) from error
    return MeshStatus(found[0] if found else 0, versions, checkpoints, held, deploy, builds, without_effect)


_READINESS = b"""
SELECT (SELECT version_num FROM mesh.alembic_version),
       (SELECT array_agg(name) FROM mesh.versions WHERE state = 'live'),
       (SELECT array_agg(topic || '[' || partition || ']: ' || halted_reason ORDER BY topic, partition)
        FROM mesh.checkpoints WHERE build = 0 AND halted_reason IS NOT NULL)
"""


async def unready(database: Database, declared: Collection[str], newest: str | None) -> list[str]:
    """Why reads cannot be trusted, a sentence each; empty when they can.

    `declared` are the names of entities and views that should be deployed, `newest` the control schema's revision.
    """
    try:
        revision, live, halted = (await database.fetch(Statement(_READINESS, ())))[0]
    except ReadError as error:
        return [str(error)]
    reasons = []
    if revision != newest:
        reasons.append(f"The control schema is at {revision}, not {newest}. Run mesh migrate.")
    if missing := sorted(set(declared) - set(live or ())):
        reasons.append(f"Not deployed: {', '.join(missing)}. Run mesh deploy.")
    reasons += [f"Halted: {reason}" for reason in halted or ()]
    return reasons
