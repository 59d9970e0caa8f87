"""Records that took no effect: refused, or parked behind one of the same key that was."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from mesh_core.log.interface import Headers
from mesh_core.log.position import TopicPartition

_COLUMNS = 'topic, "partition", "offset", key, value, headers, reason, detail, kept_at'


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that took no effect; `reason` is None where it is parked behind another of its key."""

    partition: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str | None
    detail: str | None
    kept_at: datetime | None = None


def keep(connection: psycopg.Connection[Any], subscriber: str, letter: Letter) -> None:
    """Keep it whole."""
    headers = [[name, base64.b64encode(value).decode()] for name, value in letter.headers]
    connection.execute(
        f"INSERT INTO subscription_letters (subscriber, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, now())",
        (
            subscriber,
            letter.partition.topic,
            letter.partition.partition,
            letter.offset,
            letter.key,
            letter.value,
            Jsonb(headers),
            letter.reason,
            (letter.detail or "").replace("\0", "\ufffd") or None,
        ),
    )


def blocked(
    connection: psycopg.Connection[Any], subscriber: str, topic: str, keys: Sequence[bytes]
) -> set[bytes]:
    """Which of these keys have letters, so that what follows of them waits."""
    rows = connection.execute(
        "SELECT DISTINCT key FROM subscription_letters WHERE subscriber = %s AND topic = %s AND key = ANY(%s)",
        (subscriber, topic, list(keys)),
    ).fetchall()
    return {row[0] for row in rows}


def kept(
    connection: psycopg.Connection[Any],
    subscriber: str,
    topic: str | None = None,
    key: bytes | None = None,
    limit: int = 1000,
) -> list[Letter]:
    """Letters in the order of the log; of one key of a topic, or of all."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM subscription_letters WHERE subscriber = %s AND (%s::text IS NULL OR topic = %s) "
        'AND (%s::bytea IS NULL OR key = %s) ORDER BY topic, "partition", "offset" LIMIT %s',
        (subscriber, topic, topic, key, key, limit),
    ).fetchall()
    return [
        Letter(
            TopicPartition(row[0], row[1]),
            row[2],
            row[3],
            row[4],
            tuple((name, base64.b64decode(value)) for name, value in row[5]),
            *row[6:],
        )
        for row in rows
    ]


def forget(connection: psycopg.Connection[Any], subscriber: str, letter: Letter) -> bool:
    """Forget it; whether it was there."""
    found = connection.execute(
        'DELETE FROM subscription_letters WHERE subscriber = %s AND topic = %s AND "partition" = %s AND "offset" = %s',
        (subscriber, letter.partition.topic, letter.partition.partition, letter.offset),
    )
    return found.rowcount == 1
