"""Events that came by HTTP: each is claimed before it is published, and remembered with its place in the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from mesh_core.log.interface import Delivered
from mesh_core.log.position import TopicPartition

LIFETIME = 60
"""Seconds after which a claim without a place in the log is that of a process that died."""
_FORGOTTEN_AT_ONCE = 10_000


_SETTLE = """
UPDATE mesh.ingested i SET topic = s.topic, "partition" = s.part, "offset" = s.at
FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::bigint[]) AS s(digest, topic, part, at) WHERE i.digest = s.digest
"""
# Two statements in a pipeline, with values and rows by psycopg, took 22 % of the event loop; this takes 11.
# It answers one row, and one more for each event that is not claimed now, as almost all are.
_CLAIM = f"""
WITH settled AS ({_SETTLE}), asked AS (SELECT * FROM unnest(%s::uuid[]) WITH ORDINALITY AS a(digest, number)), claimed AS (
    INSERT INTO mesh.ingested AS i (digest, claimed_at) SELECT digest, now() FROM asked
    ON CONFLICT (digest) DO UPDATE SET claimed_at = now()
        WHERE i.topic IS NULL AND i.claimed_at < now() - interval '{LIFETIME} s'
    RETURNING digest
) SELECT (SELECT value FROM mesh.generation WHERE id = 1), o.* FROM (VALUES (1)) AS always LEFT JOIN (
    SELECT a.number, i.topic, i."partition", i."offset" FROM asked a LEFT JOIN mesh.ingested i USING (digest)
    WHERE NOT EXISTS (SELECT FROM claimed c WHERE c.digest = a.digest)
) AS o ON true
"""

Digest = str
"""Stands for an event's source and id: 32 hexadecimal digits, in small letters."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What became of a claim of some digests, in the snapshot with this generation.

    Those `ours` are to be published; `known` have been; all others are being published elsewhere.
    """

    generation: int
    ours: frozenset[Digest]
    known: Mapping[Digest, Delivered]


async def claim(
    connection: psycopg.AsyncConnection[Any], digests: Iterable[Digest], delivered: Mapping[Digest, Delivered]
) -> Claims:
    """Remember where the log has what was `delivered`, and claim other events, in one statement.

    In one order everywhere, so that two who claim the same do not wait for each other in turn.
    """
    ordered = sorted(digests)
    cursor = await connection.execute(_CLAIM, (*_columns(delivered), _array(ordered)))
    rows = await cursor.fetchall()
    others = {
        ordered[number - 1]: None if topic is None else Delivered(TopicPartition(topic, partition), offset)
        for _, number, topic, partition, offset in rows
        if number is not None
    }
    return Claims(
        rows[0][0],
        frozenset(ordered).difference(others),
        {digest: place for digest, place in others.items() if place is not None},
    )


async def settle(connection: psycopg.AsyncConnection[Any], delivered: Mapping[Digest, Delivered]) -> None:
    """Remember where the log has events."""
    if delivered:
        await connection.execute(_SETTLE, _columns(delivered))


async def release(connection: psycopg.AsyncConnection[Any], digests: Iterable[Digest]) -> None:
    """Give up claims of what was surely not published."""
    await connection.execute(
        "DELETE FROM mesh.ingested WHERE digest = ANY(%s::uuid[]) AND topic IS NULL",
        (_array(sorted(digests)),),
    )


async def forget(connection: psycopg.AsyncConnection[Any], window_seconds: float) -> int:
    """Forget some of what is older than the window; how many."""
    cursor = await connection.execute(
        "DELETE FROM mesh.ingested WHERE digest IN (SELECT digest FROM mesh.ingested "
        "WHERE claimed_at < now() - make_interval(secs => %s) ORDER BY claimed_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        (max(window_seconds, LIFETIME), _FORGOTTEN_AT_ONCE),
    )
    return cursor.rowcount


def _columns(delivered: Mapping[Digest, Delivered]) -> tuple[str, str, str, str]:
    found = sorted(delivered.items())
    return (
        _array([digest for digest, _ in found]),
        _array([place.partition.topic for _, place in found]),
        _array([place.partition.partition for _, place in found]),
        _array([place.offset for _, place in found]),
    )


def _array(values: Sequence[str | int]) -> str:
    """An array as Postgres writes it, of what need not be quoted: psycopg would look at each value by itself."""
    return f"{{{','.join(map(str, values))}}}"
