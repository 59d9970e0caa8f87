"""Checkpoints and sequences of a subscriber, in the database of its service."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from mesh_core.errors import MeshError
from mesh_core.log.interface import TopicFacts
from mesh_core.log.position import TopicPartition


class Superseded(MeshError):
    """Another process has taken the partition."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a partition stands, and the fence of whoever has it."""

    next_offset: int
    fence: int
    topic_id: str


def subscriber_sql() -> str:
    """The statements that make the tables, for migrations; `Subscriber.create_tables` executes them."""
    return Path(__file__).with_name("subscriber.sql").read_text(encoding="utf-8")


def take_over(
    connection: psycopg.Connection[Any],
    subscriber: str,
    partitions: Collection[TopicPartition],
    facts: Mapping[str, TopicFacts],
) -> dict[TopicPartition, Checkpoint]:
    """Raise the fences of these partitions, so that whoever had them before cannot commit; new ones begin at offset 0."""
    found = {}
    with connection.transaction():
        for partition in sorted(partitions):
            row = connection.execute(
                "INSERT INTO subscription_checkpoints AS c VALUES (%s, %s, %s, %s, 0, 1) "
                "ON CONFLICT (subscriber, topic, partition) DO UPDATE SET fence = c.fence + 1 "
                "RETURNING next_offset, fence, topic_id",
                (subscriber, partition.topic, partition.partition, facts[partition.topic].topic_id),
            ).fetchone()
            assert row is not None
            found[partition] = Checkpoint(*row)
    return found


def advance(
    connection: psycopg.Connection[Any],
    subscriber: str,
    partition: TopicPartition,
    fence: int,
    before: int,
    after: int,
) -> None:
    """Move a checkpoint, first in its transaction: the row's lock keeps others out. Raises Superseded."""
    moved = connection.execute(
        "UPDATE subscription_checkpoints SET next_offset = %s WHERE subscriber = %s AND topic = %s "
        "AND partition = %s AND fence = %s AND next_offset = %s",
        (after, subscriber, partition.topic, partition.partition, fence, before),
    )
    if moved.rowcount != 1:
        raise Superseded(f"Another process has taken {partition}, or its checkpoint was changed.")


def lock(connection: psycopg.Connection[Any], subscriber: str, partition: TopicPartition) -> None:
    """Keep whoever has the partition from committing until this transaction ends."""
    connection.execute(
        "SELECT FROM subscription_checkpoints WHERE subscriber = %s AND topic = %s AND partition = %s FOR UPDATE",
        (subscriber, partition.topic, partition.partition),
    )


def sequences(
    connection: psycopg.Connection[Any], subscriber: str, topic: str, keys: Sequence[bytes]
) -> dict[bytes, int]:
    """The last sequence of each of these keys that has one."""
    rows = connection.execute(
        "SELECT key, sequence FROM subscription_sequences WHERE subscriber = %s AND topic = %s AND key = ANY(%s)",
        (subscriber, topic, list(keys)),
    ).fetchall()
    return dict(rows)


def keep_sequences(
    connection: psycopg.Connection[Any], subscriber: str, topic: str, found: Mapping[bytes, int]
) -> None:
    """Remember the last sequences of keys."""
    connection.execute(
        "INSERT INTO subscription_sequences SELECT %s, %s, * FROM unnest(%s::bytea[], %s::bigint[]) "
        "ON CONFLICT (subscriber, topic, key) DO UPDATE SET sequence = excluded.sequence",
        (subscriber, topic, list(found), list(found.values())),
    )
