"""Dead letters as operators see them: one a record, whatever number of entities hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be applied.

    `entities` hold it, `parked` is how many events wait behind it.
    """

    topic: str
    partition: int
    offset: int
    key: str
    event_type: str | None
    reason: str
    detail: str
    attempts: int
    held_at: datetime
    entities: Sequence[str]
    parked: int

    @property
    def address(self) -> str:
        """How commands name it: TOPIC/PARTITION/OFFSET."""
        return f"{self.topic}/{self.partition}/{self.offset}"


_LETTERS = """
SELECT d.topic, d."partition", d."offset", min(d.record_key) AS key, min(d.event_type) AS event_type,
    min(d.reason) AS reason, min(d.detail) AS detail, max(d.attempts) AS attempts, min(d.held_at) AS held_at,
    array_agg(DISTINCT v.name) AS entities, count(DISTINCT p."offset") AS parked
FROM mesh.held_events d
JOIN mesh.versions v ON v.id = d.version_id AND v.state = 'live'
LEFT JOIN mesh.held_events p ON p.topic = d.topic AND p."partition" = d."partition"
    AND p.record_key = d.record_key AND p.version_id = d.version_id AND p.status = 'parked'
WHERE d.status = 'dead'
    AND (%(topics)s::text[] = '{}' OR d.topic = ANY(%(topics)s))
GROUP BY d.topic, d."partition", d."offset"
ORDER BY d.topic, d."partition", d."offset"
LIMIT %(limit)s
"""


def dead_letters(
    connection: psycopg.Connection[Any], topics: Sequence[str] = (), limit: int = 100
) -> list[DeadLetter]:
    """Dead letters of these topics, or of all, in the order of the log, at most `limit`."""
    with connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
        return cursor.execute(
            _LETTERS,
            {"topics": list(topics), "limit": limit},
        ).fetchall()
