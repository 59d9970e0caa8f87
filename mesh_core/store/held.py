"""Dead letters and parked events while a batch is folded: who is held, and what to write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from mesh_core.log.interface import Headers
from mesh_core.log.position import TopicPartition

ALL = 0
"""The version id under which a record is held for all entities of its topic."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log, whole."""

    partition: TopicPartition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def text_key(self) -> str:
        """The key as text that Postgres can store, whatever its bytes are."""
        text = (self.key or b"").decode("utf-8", "backslashreplace")
        return text.replace("\x00", "\\x00")


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row of mesh.held_events. `otherwise` is what the record came to for the versions that do not hold it."""

    topic: str
    partition: int
    offset: int
    version_id: int
    topic_id: str
    status: Literal["dead", "parked"]
    record_key: str
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, str]]
    timestamp: int
    event_type: str | None
    event_id: str | None
    attempts: int
    otherwise: str

    @property
    def record(self) -> Record:
        return Record(
            TopicPartition(self.topic, self.partition),
            self.offset,
            self.timestamp,
            self.key,
            self.value,
            [(name, value.encode("latin-1")) for name, value in self.headers],
        )


COLUMNS = (
    'topic, "partition", "offset", version_id, topic_id, status, record_key, reason, detail, key, value, headers, '
    "timestamp, event_type, event_id, attempts, otherwise"
)


class Held:
    """What is held of the partitions of a batch, and what the batch adds and drops."""

    def __init__(self, known: Collection[tuple[TopicPartition, str, int]]) -> None:
        self.keys = set(known)
        self.partitions = {partition for partition, _, _ in known}
        self.new: list[HeldRow] = []
        self.dropped: list[tuple[TopicPartition, str, int]] = []

    def add(self, row: HeldRow) -> None:
        partition = TopicPartition(row.topic, row.partition)
        self.keys.add((partition, row.record_key, row.version_id))
        self.partitions.add(partition)
        self.new.append(row)

    def has(self, partition: TopicPartition, record_key: str, version_id: int) -> bool:
        return (partition, record_key, version_id) in self.keys

    def drop(self, partition: TopicPartition, record_key: str, version_id: int) -> None:
        """A whole-state event supersedes what is held."""
        at = (partition, record_key, version_id)
        self.keys.discard(at)
        self.dropped.append(at)
        self.new = [
            row
            for row in self.new
            if (TopicPartition(row.topic, row.partition), row.record_key, row.version_id) != at
        ]

    def write(self, cursor: psycopg.Cursor[Any]) -> None:
        """Delete what was dropped, then insert what is new."""
        if self.dropped:
            cursor.executemany(
                'DELETE FROM mesh.held_events WHERE topic = %s AND "partition" = %s AND record_key = %s AND version_id = %s',
                [(p.topic, p.partition, key, version) for p, key, version in self.dropped],
            )
        insert_rows(cursor, self.new)


def insert_rows(cursor: psycopg.Cursor[Any], rows: Sequence[HeldRow]) -> None:
    """Write rows; one that is there already is replaced."""
    if rows:
        cursor.executemany(
            f"INSERT INTO mesh.held_events ({COLUMNS}) VALUES ({', '.join(['%s'] * 17)}) "
            'ON CONFLICT (topic, "partition", "offset", version_id) DO UPDATE SET status = excluded.status, '
            "reason = excluded.reason, detail = excluded.detail, attempts = excluded.attempts",
            [
                (
                    row.topic,
                    row.partition,
                    row.offset,
                    row.version_id,
                    row.topic_id,
                    row.status,
                    row.record_key,
                    row.reason,
                    row.detail,
                    row.key,
                    row.value,
                    Jsonb(list(row.headers)),
                    row.timestamp,
                    row.event_type,
                    row.event_id,
                    row.attempts,
                    row.otherwise,
                )
                for row in rows
            ],
        )


def load(
    cursor: psycopg.Cursor[Any], partitions: Collection[TopicPartition], versions: Collection[int]
) -> Held:
    """Who is held in these partitions, of these versions. The checkpoints must be locked."""
    wanted = sorted(partitions)
    cursor.execute(
        'SELECT DISTINCT topic, "partition", record_key, version_id FROM mesh.held_events '
        'WHERE (topic, "partition") IN (SELECT * FROM unnest(%s::text[], %s::int[])) AND version_id = ANY(%s)',
        ([p.topic for p in wanted], [p.partition for p in wanted], list(versions)),
    )
    return Held([(TopicPartition(t, p), key, version) for t, p, key, version in cursor.fetchall()])


def chain(
    connection: psycopg.Connection[Any], partition: TopicPartition, record_key: str, version_id: int
) -> list[HeldRow]:
    """All that is held of a record key for a version, in the order of the log."""
    with connection.cursor(row_factory=class_row(HeldRow)) as cursor:
        return cursor.execute(
            f'SELECT {COLUMNS} FROM mesh.held_events WHERE topic = %s AND "partition" = %s AND record_key = %s '
            'AND version_id = %s ORDER BY "offset"',
            (partition.topic, partition.partition, record_key, version_id),
        ).fetchall()


def rows_at(connection: psycopg.Connection[Any], partition: TopicPartition, offset: int) -> list[HeldRow]:
    """What holds one record, by version."""
    with connection.cursor(row_factory=class_row(HeldRow)) as cursor:
        return cursor.execute(
            f'SELECT {COLUMNS} FROM mesh.held_events WHERE topic = %s AND "partition" = %s AND "offset" = %s '
            "ORDER BY version_id",
            (partition.topic, partition.partition, offset),
        ).fetchall()
