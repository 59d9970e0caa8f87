"""Dead letters and parked events while a batch is folded: who is held, and what to write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from mesh_core.log.interface import Headers
from mesh_core.log.position import TopicPartition

Place = tuple[TopicPartition, int]
"""Where one record is in the log: partition and offset."""
Line = tuple[TopicPartition, str, int]
"""Records held for one record key and one version, in the order of the log."""


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
        return text_of_key(self.key)


def text_of_key(key: bytes | None) -> str:
    """A record key as text that Postgres can store, whatever its bytes are."""
    return (key or b"").decode("utf-8", "backslashreplace").replace("\x00", "\\x00")


def text_of_headers(headers: Headers) -> list[tuple[str, str | None]]:
    """Headers as text that jsonb can store, readable where they are: what is no printable ASCII is escaped."""
    return [
        (_escaped(name), _escaped(value.decode("latin-1")) if value is not None else None)
        for name, value in headers
    ]


def headers_of_text(headers: Sequence[tuple[str, str | None]]) -> Headers:
    """What `text_of_headers` was given."""
    return [
        (_unescaped(name), _unescaped(value).encode("latin-1") if value is not None else None)  # type: ignore[misc]
        for name, value in headers
    ]


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _unescaped(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row of mesh.held_events.

    `edited` is what an edit put in place of the value. `otherwise` is the worst that the record came to for
    versions that do not hold it; `counted` the outcome that it is counted under. Both are the same in all rows
    of one record.
    """

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
    edited: bytes | None
    headers: Sequence[tuple[str, str | None]]
    timestamp: int
    event_type: str | None
    event_id: str | None
    attempts: int
    otherwise: str
    counted: str

    @property
    def place(self) -> Place:
        """Where the record is in the log."""
        return TopicPartition(self.topic, self.partition), self.offset

    @property
    def line(self) -> Line:
        """What the record waits in."""
        return TopicPartition(self.topic, self.partition), self.record_key, self.version_id

    @property
    def record(self) -> Record:
        """The record as it is in the log."""
        return Record(
            TopicPartition(self.topic, self.partition),
            self.offset,
            self.timestamp,
            self.key,
            self.value,
            headers_of_text(self.headers),
        )


COLUMNS = (
    'topic, "partition", "offset", version_id, topic_id, status, record_key, reason, detail, key, value, edited, headers, '
    "timestamp, event_type, event_id, attempts, otherwise, counted"
)


class Held:
    """What is held of the partitions of a batch (`lines`), and what the batch adds and drops."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = set(lines)
        self.partitions = {partition for partition, _, _ in self.lines}
        self.new: dict[tuple[TopicPartition, int, int], HeldRow] = {}
        self.dropped: set[Line] = set()

    def add(self, row: HeldRow) -> None:
        """Hold a record."""
        self.lines.add(row.line)
        self.partitions.add(row.line[0])
        self.replace(row)

    def replace(self, row: HeldRow) -> None:
        """Write a row anew that stays where it is."""
        self.new[(*row.place, row.version_id)] = row

    def drop(self, line: Line) -> None:
        """Hold nothing of a line any more."""
        self.lines.discard(line)
        self.dropped.add(line)
        self.new = {at: row for at, row in self.new.items() if row.line != line}

    def at(self, place: Place) -> list[HeldRow]:
        """What this batch adds of one record."""
        return [row for row in self.new.values() if row.place == place]

    def write(self, cursor: psycopg.Cursor[Any]) -> None:
        """Delete what was dropped, then insert what is new."""
        if self.dropped:
            cursor.executemany(
                'DELETE FROM mesh.held_events WHERE topic = %s AND "partition" = %s AND record_key = %s AND version_id = %s',
                [
                    (partition.topic, partition.partition, key, version)
                    for partition, key, version in self.dropped
                ],
            )
        if self.new:
            names = [field.name for field in fields(HeldRow)]
            changing = (
                "status",
                "reason",
                "detail",
                "edited",
                "attempts",
                "otherwise",
                "counted",
            )
            cursor.executemany(
                f"INSERT INTO mesh.held_events ({COLUMNS}) VALUES ({', '.join(['%s'] * len(names))}) "
                'ON CONFLICT (topic, "partition", "offset", version_id) DO UPDATE SET '
                + ", ".join(f"{name} = excluded.{name}" for name in changing),
                [
                    [Jsonb(list(row.headers)) if name == "headers" else getattr(row, name) for name in names]
                    for row in self.new.values()
                ],
            )


def load(
    connection: psycopg.Connection[Any], partitions: Collection[TopicPartition], versions: Collection[int]
) -> Held:
    """Who is held in these partitions, of these versions. The checkpoints must be locked."""
    wanted = sorted(partitions)
    cursor = connection.execute(
        'SELECT DISTINCT topic, "partition", record_key, version_id FROM mesh.held_events '
        'WHERE (topic, "partition") IN (SELECT * FROM unnest(%s::text[], %s::int[])) AND version_id = ANY(%s)',
        ([p.topic for p in wanted], [p.partition for p in wanted], list(versions)),
    )
    return Held((TopicPartition(t, p), key, version) for t, p, key, version in cursor.fetchall())


def chain(connection: psycopg.Connection[Any], line: Line) -> list[HeldRow]:
    """All that is held in a line, in the order of the log."""
    partition, record_key, version_id = line
    with connection.cursor(row_factory=class_row(HeldRow)) as cursor:
        return cursor.execute(
            f'SELECT {COLUMNS} FROM mesh.held_events WHERE topic = %s AND "partition" = %s AND record_key = %s '
            'AND version_id = %s ORDER BY "offset"',
            (partition.topic, partition.partition, record_key, version_id),
        ).fetchall()


def rows_at(connection: psycopg.Connection[Any], place: Place) -> list[HeldRow]:
    """What holds one record, by version."""
    partition, offset = place
    with connection.cursor(row_factory=class_row(HeldRow)) as cursor:
        return cursor.execute(
            f'SELECT {COLUMNS} FROM mesh.held_events WHERE topic = %s AND "partition" = %s AND "offset" = %s '
            "ORDER BY version_id",
            (partition.topic, partition.partition, offset),
        ).fetchall()
