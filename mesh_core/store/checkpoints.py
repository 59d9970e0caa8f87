"""Checkpoints: the position that versions have applied, one row per (topic, partition)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from mesh_core.log.interface import TopicFacts
from mesh_core.log.position import Position, TopicPartition
from mesh_core.store.versions import LIVE


@dataclass(frozen=True)
class Checkpoint:
    """A row of mesh.checkpoints, as a projector needs it."""

    partition: TopicPartition
    next_offset: int
    fence: int
    topic_id: str
    partitions: int
    halted_reason: str | None


@dataclass
class Counts:
    """Outcomes of records, each counted once: consumed = applied + ignored + dead_lettered + parked.

    A retry moves a record from one outcome to another, so a count can be negative within a batch.
    """

    consumed: int = 0
    applied: int = 0
    ignored: int = 0
    dead_lettered: int = 0
    parked: int = 0

    def add(self, outcome: str, count: int = 1) -> None:
        """Count `count` more records under an outcome."""
        setattr(self, outcome, getattr(self, outcome) + count)

    def include(self, more: Counts) -> None:
        """Count all that `more` has, too."""
        for outcome in ("consumed", "applied", "ignored", "dead_lettered", "parked"):
            self.add(outcome, getattr(more, outcome))


COLUMNS = 'topic, "partition", next_offset, fence, topic_id, partitions, halted_reason'


def ensure(connection: psycopg.Connection[Any], facts: Iterable[TopicFacts], build: int = LIVE) -> None:
    """Make the missing checkpoint rows of these topics, at offset 0."""
    with connection.cursor() as cursor:
        for topic in facts:
            cursor.executemany(
                'INSERT INTO mesh.checkpoints (build, topic, "partition", next_offset, topic_id, partitions) '
                "VALUES (%s, %s, %s, 0, %s, %s) ON CONFLICT DO NOTHING",
                [(build, topic.name, n, topic.topic_id, topic.partitions) for n in range(topic.partitions)],
            )


def begin(connection: psycopg.Connection[Any], begins: Mapping[TopicPartition, int], build: int) -> None:
    """Let a build begin where the log does."""
    with connection.cursor() as cursor:
        cursor.executemany(
            'UPDATE mesh.checkpoints SET next_offset = %s WHERE build = %s AND topic = %s AND "partition" = %s',
            [(offset, build, at.topic, at.partition) for at, offset in begins.items() if offset > 0],
        )


def take_from_build(connection: psycopg.Connection[Any], topics: Collection[str], build: int) -> None:
    """Let the live checkpoints of topics that nobody reads be as a build has come to. They must be locked."""
    columns = ("next_offset", "consumed", "applied", "ignored", "dead_lettered", "parked", "event_time")
    changes = ", ".join(f"{name} = built.{name}" for name in columns)
    connection.execute(
        f"UPDATE mesh.checkpoints AS live SET {changes} FROM mesh.checkpoints AS built WHERE live.build = %s "
        "AND built.build = %s AND (built.topic, built.partition) = (live.topic, live.partition) "
        "AND live.topic = ANY(%s) AND live.next_offset <= built.next_offset",
        (LIVE, build, list(topics)),
    )


def free(connection: psycopg.Connection[Any], build: int) -> None:
    """Let the processes of a build take partitions anew, where those that had taken them are gone."""
    connection.execute("UPDATE mesh.checkpoints SET fence = 0 WHERE build = %s", (build,))


def read(
    connection: psycopg.Connection[Any], topics: Collection[str], build: int = LIVE
) -> dict[TopicPartition, Checkpoint]:
    """The checkpoints of these topics, without locking them."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM mesh.checkpoints WHERE build = %s AND topic = ANY(%s)", (build, list(topics))
    ).fetchall()
    return {found.partition: found for found in map(_checkpoint, rows)}


def ask_lock(
    connection: psycopg.Connection[Any], partitions: Collection[TopicPartition], build: int = LIVE
) -> Callable[[], dict[TopicPartition, Checkpoint]]:
    """Ask for the barrier: these rows FOR UPDATE in (topic, partition) order, held to the end of the transaction."""
    wanted = sorted(partitions)
    cursor = connection.execute(
        f'SELECT {COLUMNS} FROM mesh.checkpoints WHERE build = %s AND (topic, "partition") IN '
        '(SELECT * FROM unnest(%s::text[], %s::int[])) ORDER BY topic, "partition" FOR UPDATE',
        (build, [p.topic for p in wanted], [p.partition for p in wanted]),
    )
    return lambda: {found.partition: found for found in map(_checkpoint, cursor.fetchall())}


def lock(
    connection: psycopg.Connection[Any], partitions: Collection[TopicPartition], build: int = LIVE
) -> dict[TopicPartition, Checkpoint]:
    """The barrier: these rows FOR UPDATE in (topic, partition) order, held to the end of the transaction."""
    return ask_lock(connection, partitions, build)()


def lock_live(cursor: psycopg.Cursor[Any]) -> None:
    """The barrier over all live checkpoints, also those of topics that no declaration names any more."""
    cursor.execute(
        'SELECT FROM mesh.checkpoints WHERE build = %s ORDER BY topic, "partition" FOR UPDATE', (LIVE,)
    )


def take_over(
    connection: psycopg.Connection[Any], partitions: Collection[TopicPartition], build: int = LIVE
) -> dict[TopicPartition, Checkpoint]:
    """Raise the fence of these rows, so that whoever had them before cannot commit; the rows after it."""
    with connection.transaction(), connection.cursor() as cursor:
        lock(connection, partitions, build)  # in order, which an UPDATE alone would not keep
        wanted = sorted(partitions)
        cursor.execute(
            'UPDATE mesh.checkpoints SET fence = fence + 1 WHERE build = %s AND (topic, "partition") IN '
            f"(SELECT * FROM unnest(%s::text[], %s::int[])) RETURNING {COLUMNS}",
            (build, [p.topic for p in wanted], [p.partition for p in wanted]),
        )
        return {found.partition: found for found in map(_checkpoint, cursor.fetchall())}


@dataclass
class Advance:
    """What a batch does to a checkpoint: where it stands after, and what became of the records."""

    next_offset: int
    counts: Counts
    timestamp: int | None = None
    """Milliseconds since 1970 of the newest record."""


MAX_PAYLOAD = 7900
"""Bytes of a NOTIFY; Postgres takes 7,999."""
LAST_TIMESTAMP = 253_402_300_799_999
"""Milliseconds since 1970 of the last time that Python can tell; a topic may take records of any time."""
_ADVANCE = """
UPDATE mesh.checkpoints c SET next_offset = a.next_offset, consumed = c.consumed + a.consumed,
    applied = c.applied + a.applied, ignored = c.ignored + a.ignored, dead_lettered = c.dead_lettered + a.dead_lettered,
    parked = c.parked + a.parked, updated_at = clock_timestamp(),
    event_time = greatest(c.event_time, to_timestamp(a.timestamp / 1000.0))
FROM json_to_recordset(%s::json) AS a(topic text, part int, next_offset bigint, consumed bigint, applied bigint,
    ignored bigint, dead_lettered bigint, parked bigint, timestamp bigint)
WHERE c.build = %s AND c.topic = a.topic AND c."partition" = a.part
"""
_ADVANCE_AND_NOTIFY = f"WITH advanced AS ({_ADVANCE}) SELECT pg_notify('mesh_positions', %s)"


def advance(
    cursor: psycopg.Cursor[Any],
    advances: Mapping[TopicPartition, Advance],
    build: int = LIVE,
    *,
    announced: bool = False,
) -> None:
    """Write locked checkpoints at the end of their transaction. Where they are `announced`, its commit sends a NOTIFY.

    It is one statement for all, since each one takes about a tenth of a small transaction.
    """
    rows = [
        {
            "topic": partition.topic,
            "part": partition.partition,
            "next_offset": change.next_offset,
            **asdict(change.counts),
            "timestamp": None if change.timestamp is None else min(change.timestamp, LAST_TIMESTAMP),
        }
        for partition, change in advances.items()
    ]
    values = (json.dumps(rows), build)
    if not announced:
        cursor.execute(_ADVANCE, values)
        return
    told = Position({partition: change.next_offset for partition, change in advances.items()}).to_header()
    # Who listens reads the checkpoints anyway; too long a payload is left out.
    cursor.execute(_ADVANCE_AND_NOTIFY, (*values, told if len(told) < MAX_PAYLOAD else ""))


def confirm_current(
    connection: psycopg.Connection[Any], partitions: Collection[TopicPartition], seconds: float
) -> None:
    """All that the log had of these `seconds` ago is applied. Those that are locked just now are left out."""
    connection.execute(
        "UPDATE mesh.checkpoints AS c "
        "SET current_at = greatest(c.current_at, clock_timestamp() - make_interval(secs => %s)) FROM ("
        '    SELECT topic, "partition" FROM mesh.checkpoints WHERE build = %s AND (topic, "partition") IN '
        "    (SELECT * FROM unnest(%s::text[], %s::int[])) FOR NO KEY UPDATE SKIP LOCKED) AS free "
        'WHERE c.build = %s AND (c.topic, c."partition") = (free.topic, free."partition")',
        (seconds, LIVE, [p.topic for p in partitions], [p.partition for p in partitions], LIVE),
    )


def halt(connection: psycopg.Connection[Any], topic: str, reason: str) -> None:
    """Mark all partitions of a topic as halted; its views are stale from now on, and say why."""
    connection.execute(
        "UPDATE mesh.checkpoints c SET halted_reason = %s, halted_at = clock_timestamp() FROM ("
        'SELECT build, topic, "partition" FROM mesh.checkpoints WHERE topic = %s AND halted_reason IS DISTINCT FROM %s '
        'ORDER BY topic, "partition" FOR UPDATE) AS o '
        'WHERE c.build = o.build AND c.topic = o.topic AND c."partition" = o."partition"',
        (reason, topic, reason),
    )


def resume(connection: psycopg.Connection[Any], partitions: Collection[TopicPartition]) -> None:
    """Forget that these were halted."""
    wanted = sorted(partitions)
    connection.execute(
        "UPDATE mesh.checkpoints SET halted_reason = NULL, halted_at = NULL WHERE halted_reason IS NOT NULL "
        'AND (topic, "partition") IN (SELECT * FROM unnest(%s::text[], %s::int[]))',
        ([p.topic for p in wanted], [p.partition for p in wanted]),
    )


def position(connection: psycopg.Connection[Any], topics: Collection[str], build: int = LIVE) -> Position:
    """The checkpoints of these topics as a Position."""
    return Position(
        {partition: row.next_offset for partition, row in read(connection, topics, build).items()}
    )


def _checkpoint(row: tuple[Any, ...]) -> Checkpoint:
    topic, partition, next_offset, fence, topic_id, partitions, reason = row
    return Checkpoint(TopicPartition(topic, partition), next_offset, fence, topic_id, partitions, reason)
