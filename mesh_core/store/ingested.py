"""Events that came by HTTP: each is claimed before it is published, and remembered with its place in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from mesh_core.log.interface import Delivered
from mesh_core.log.position import TopicPartition

LIFETIME = 60
"""Seconds after which a claim without a place in the log is that of a process that died."""
_FORGOTTEN_AT_ONCE = 10_000


_CLAIM = f"""
WITH claimed AS (
    INSERT INTO mesh.ingested AS i (digest, claimed_at) SELECT d, now() FROM unnest(%s::uuid[]) AS d
    ON CONFLICT (digest) DO UPDATE SET claimed_at = now()
        WHERE i.topic IS NULL AND i.claimed_at < now() - interval '{LIFETIME} s'
    RETURNING digest
) SELECT (SELECT value FROM mesh.generation WHERE id = 1), d, c.digest IS NOT NULL, i.topic, i."partition", i."offset"
FROM unnest(%s::uuid[]) AS d LEFT JOIN claimed c ON c.digest = d LEFT JOIN mesh.ingested i ON i.digest = d
"""


@dataclass(frozen=True, slots=True)
class Claims:
    """What became of a claim of some digests, in the snapshot with this generation.

    Those `ours` are to be published; `known` have been; all others are being published elsewhere.
    """

    generation: int
    ours: frozenset[UUID]
    known: Mapping[UUID, Delivered]


async def claim(
    connection: psycopg.AsyncConnection[Any], digests: Sequence[UUID], delivered: Mapping[UUID, Delivered]
) -> Claims:
    """Remember where the log has what was `delivered`, and claim events, without a round trip between.

    In one order everywhere, so that two who claim the same do not wait for each other in turn.
    """
    async with connection.pipeline():
        await settle(connection, delivered)
        cursor = await connection.execute(_CLAIM, (ordered := sorted(digests), ordered))
        rows = await cursor.fetchall()
    return Claims(
        rows[0][0],
        frozenset(digest for _, digest, ours, *_ in rows if ours),
        {
            digest: Delivered(TopicPartition(topic, partition), offset)
            for _, digest, ours, topic, partition, offset in rows
            if topic is not None and not ours
        },
    )


async def settle(connection: psycopg.AsyncConnection[Any], delivered: Mapping[UUID, Delivered]) -> None:
    """Remember where the log has events."""
    if not delivered:
        return
    found = sorted(delivered.items())
    await connection.execute(
        'UPDATE mesh.ingested i SET topic = d.topic, "partition" = d.part, "offset" = d.at '
        "FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::bigint[]) AS d(digest, topic, part, at) "
        "WHERE i.digest = d.digest",
        (
            [digest for digest, _ in found],
            [place.partition.topic for _, place in found],
            [place.partition.partition for _, place in found],
            [place.offset for _, place in found],
        ),
    )


async def release(connection: psycopg.AsyncConnection[Any], digests: Sequence[UUID]) -> None:
    """Give up claims of what was surely not published."""
    await connection.execute(
        "DELETE FROM mesh.ingested WHERE digest = ANY(%s) AND topic IS NULL", (sorted(digests),)
    )


async def forget(connection: psycopg.AsyncConnection[Any], window_seconds: float) -> int:
    """Forget some of what is older than the window; how many."""
    cursor = await connection.execute(
        "DELETE FROM mesh.ingested WHERE digest IN (SELECT digest FROM mesh.ingested "
        "WHERE claimed_at < now() - make_interval(secs => %s) ORDER BY claimed_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        (max(window_seconds, LIFETIME), _FORGOTTEN_AT_ONCE),
    )
    return cursor.rowcount
