"""What a batch looks up before it folds, and the control rows it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from mesh_core.log.position import TopicPartition
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.held import Place
from mesh_core.store.tables import columns_sql, physical, quote


def present_keys(
    cursor: psycopg.Cursor[Any],
    version: EntityVersion,
    keys: Collection[tuple[Any, ...]],
    names: Sequence[str],
) -> dict[tuple[Any, ...], int]:
    """Which of `keys` (values of the key columns `names`) have a row, and the partition that writes it."""
    types = [version.model.column(name).type.sql for name in names]
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    match = " AND ".join(f"t.{quote(name)} = k.{quote(name)}" for name in names)
    found = cursor.connection.execute(
        f"SELECT DISTINCT {columns_sql(names, 't')}, t._partition FROM unnest({arrays}) AS k({columns_sql(names)}) "
        f"JOIN {physical(version.relation)} t ON {match}",
        [list(column) for column in zip(*keys, strict=True)],
    )
    return {tuple(row[:-1]): row[-1] for row in found.fetchall()}


def last_sequences(
    cursor: psycopg.Cursor[Any], versions: Collection[int], record_keys: Collection[str]
) -> dict[tuple[int, str], int]:
    """The last sequence applied, by (version id, record key)."""
    found = cursor.connection.execute(
        "SELECT version_id, record_key, sequence FROM mesh.sequences WHERE version_id = ANY(%s) AND record_key = ANY(%s)",
        (list(versions), list(record_keys)),
    )
    return {(version, key): sequence for version, key, sequence in found.fetchall()}


def write_sequences(cursor: psycopg.Cursor[Any], sequences: Mapping[tuple[int, str], int]) -> None:
    """Remember the last sequence applied, by (version id, record key)."""
    cursor.executemany(
        "INSERT INTO mesh.sequences (version_id, record_key, sequence) VALUES (%s, %s, %s) "
        "ON CONFLICT (version_id, record_key) DO UPDATE SET sequence = excluded.sequence",
        [(version, key, sequence) for (version, key), sequence in sequences.items()],
    )


RecentIds = dict[tuple[int, TopicPartition, str], int]
"""Offsets at which event ids were applied, by (version id, partition, id)."""


def recent_ids(
    cursor: psycopg.Cursor[Any],
    versions: Collection[int],
    partitions: Collection[TopicPartition],
    ids: Collection[str],
) -> RecentIds:
    """Where these event ids were applied before, within the windows that are kept."""
    wanted = sorted(partitions)
    found = cursor.connection.execute(
        'SELECT version_id, topic, "partition", event_id, "offset" FROM mesh.recent_ids WHERE version_id = ANY(%s) '
        'AND (topic, "partition") IN (SELECT * FROM unnest(%s::text[], %s::int[])) AND event_id = ANY(%s)',
        (list(versions), [p.topic for p in wanted], [p.partition for p in wanted], list(ids)),
    )
    return {
        (version, TopicPartition(t, p), event): offset for version, t, p, event, offset in found.fetchall()
    }


def write_recent_ids(
    cursor: psycopg.Cursor[Any], found: RecentIds, kept_from: Mapping[tuple[int, TopicPartition], int]
) -> None:
    """Remember ids, and forget those before the offset in `kept_from`, by (version id, partition)."""
    cursor.executemany(
        'INSERT INTO mesh.recent_ids (version_id, topic, "partition", event_id, "offset") VALUES (%s, %s, %s, %s, %s) '
        'ON CONFLICT (version_id, topic, "partition", event_id) DO UPDATE SET "offset" = excluded."offset"',
        [(version, p.topic, p.partition, event, offset) for (version, p, event), offset in found.items()],
    )
    cursor.executemany(
        'DELETE FROM mesh.recent_ids WHERE version_id = %s AND topic = %s AND "partition" = %s AND "offset" < %s',
        [(version, p.topic, p.partition, offset) for (version, p), offset in kept_from.items()],
    )


@dataclass(frozen=True, slots=True)
class IndexedEvent:
    """Where an event of a workflow is in the log."""

    partition: TopicPartition
    offset: int
    workflow_id: UUID
    service: str
    entity: str
    key: str
    type: str
    time: datetime


def write_event_index(cursor: psycopg.Cursor[Any], events: Iterable[IndexedEvent]) -> None:
    """Add events to the index of workflows; those already there are left."""
    rows = [
        (
            e.partition.topic,
            e.partition.partition,
            e.offset,
            e.workflow_id,
            e.service,
            e.entity,
            e.key,
            e.type,
            e.time,
        )
        for e in events
    ]
    arrays = ["text[]", "int[]", "bigint[]", "uuid[]", *["text[]"] * 4, "timestamptz[]"]
    cursor.execute(
        'INSERT INTO mesh.event_index (topic, "partition", "offset", workflow_id, service, entity, key, type, time) '
        f"SELECT * FROM unnest({', '.join(f'%s::{kind}' for kind in arrays)}) ON CONFLICT DO NOTHING",
        [list(column) for column in zip(*rows, strict=True)],
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """What an operator decided about a dead letter. `value` replaces an edited record's."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    action: str
    value: bytes | None
    decided_at: datetime
    decided_offset: int
    """Of the decision itself; decisions on one letter are in one partition of mesh.events."""

    @property
    def letter(self) -> Place:
        """Where the dead letter is in the log."""
        return TopicPartition(self.topic, self.partition), self.offset


Decided = Mapping[Place, Sequence[Decision]]
"""Decisions by the record that they are on, each record's in their order."""


def write_decision(cursor: psycopg.Cursor[Any], decision: Decision) -> None:
    """Remember a decision."""
    cursor.execute(
        'INSERT INTO mesh.decisions (topic, topic_id, "partition", "offset", action, value, decided_at, decided_offset) '
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        astuple(decision),
    )


@dataclass(frozen=True, slots=True)
class News:
    """The generation of the catalog, and whether anything is held or decided of some records."""

    generation: int
    held: bool
    decided: bool


Ranges = Mapping[TopicPartition, tuple[int, int]]
"""Records of partitions, from the first offset to before the second."""


def ask_news(
    connection: psycopg.Connection[Any], ranges: Ranges, versions: Collection[int]
) -> Callable[[], News]:
    """Ask what there may be to know of these records before they are folded; nearly always, nothing is held or decided.

    Asked one by one, a transaction of one event took a tenth longer.
    """
    cursor = connection.execute(
        "WITH r AS MATERIALIZED (SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[]) "
        "AS r(topic, part, first, last)) SELECT (SELECT value FROM mesh.generation WHERE id = 1), "
        # In the order of the index: Postgres takes it for likely that there is one, and would read the whole table.
        'EXISTS (SELECT FROM r, LATERAL (SELECT FROM mesh.held_events h WHERE h.topic = r.topic AND h."partition" = r.part '
        'AND h.version_id = ANY(%s) ORDER BY h.topic, h."partition", h."offset" LIMIT 1) AS x), '
        'EXISTS (SELECT FROM r JOIN mesh.decisions d ON d.topic = r.topic AND d."partition" = r.part '
        'AND d."offset" >= r.first AND d."offset" < r.last)',
        (*_columns(ranges), list(versions)),
    )

    def answer() -> News:
        row = cursor.fetchone()
        assert row is not None
        return News(*row)

    return answer


def _columns(ranges: Ranges) -> tuple[list[str], list[int], list[int], list[int]]:
    return (
        [partition.topic for partition in ranges],
        [partition.partition for partition in ranges],
        [first for first, _ in ranges.values()],
        [end for _, end in ranges.values()],
    )


def decisions_within(
    connection: psycopg.Connection[Any], ranges: Ranges, build: int
) -> dict[Place, list[Decision]]:
    """Decisions on these records, in their order.

    They count where they are of the topic that the checkpoints of `build` are of, not of one of the same name before it.
    """
    cursor = connection.execute(
        'SELECT d.topic, d.topic_id, d."partition", d."offset", d.action, d.value, d.decided_at, d.decided_offset '
        "FROM mesh.decisions d "
        "JOIN unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[]) AS r(topic, part, first, last) "
        'ON d.topic = r.topic AND d."partition" = r.part AND d."offset" >= r.first AND d."offset" < r.last '
        'JOIN mesh.checkpoints c ON c.build = %s AND (c.topic, c."partition", c.topic_id) = '
        '(d.topic, d."partition", d.topic_id) ORDER BY d.decided_offset',
        (*_columns(ranges), build),
    )
    found: dict[Place, list[Decision]] = {}
    for row in cursor.fetchall():
        decision = Decision(*row)
        found.setdefault(decision.letter, []).append(decision)
    return found


def decisions_on_held(connection: psycopg.Connection[Any], versions: Collection[int]) -> list[Decision]:
    """Decisions on what these versions hold as dead letters, in the order in which they were made."""
    rows = connection.execute(
        'SELECT d.topic, d.topic_id, d."partition", d."offset", d.action, d.value, d.decided_at, d.decided_offset '
        "FROM mesh.decisions d WHERE d.action <> 'retry' AND EXISTS (SELECT FROM mesh.held_events h "
        "WHERE h.version_id = ANY(%s) AND h.status = 'dead' AND (h.topic, h.topic_id, h.partition, h.offset) = "
        '(d.topic, d.topic_id, d.partition, d.offset)) ORDER BY d.decided_offset, d.topic, d.partition, d."offset"',
        (list(versions),),
    ).fetchall()
    return [Decision(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of an entity in a workflow, by the text of its key; `origin` is the topic that said so."""

    workflow_id: UUID
    key: str
    origin: str


def entries(
    connection: psycopg.Connection[Any],
    relation: str,
    entity: str,
    keys: Sequence[str],
    workflows: Sequence[UUID],
) -> list[Entry]:
    """The entries of an entity, in this version of the table of entries, that have one of the keys or one of the workflows."""
    service, _, name = entity.partition(".")
    rows = connection.execute(
        f"SELECT workflow_id, key, origin FROM {physical(relation)} WHERE service = %s AND entity = %s "
        "AND (key = ANY(%s) OR workflow_id = ANY(%s))",
        (service, name, list(keys), list(workflows)),
    ).fetchall()
    return [Entry(*row) for row in rows]


def decisions_on(connection: psycopg.Connection[Any], topics: Sequence[str]) -> list[Decision]:
    """All decisions on records of these topics, in the order in which they were made."""
    rows = connection.execute(
        'SELECT topic, topic_id, "partition", "offset", action, value, decided_at, decided_offset FROM mesh.decisions '
        "WHERE topic = ANY(%s) ORDER BY decided_offset",
        (list(topics),),
    ).fetchall()
    return [Decision(*row) for row in rows]
