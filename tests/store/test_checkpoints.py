"""Checkpoints as they are written at the end of a transaction."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import psycopg

from mesh_core.log.interface import TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.store import checkpoints
from mesh_core.store.checkpoints import Advance, Counts
from mesh_core.store.migrate import migrate

ONE, TWO, THREE = (TopicPartition("a.events", n) for n in range(3))


def test_each_partition_goes_on_from_where_it_was_and_who_waits_is_told(database_url: str) -> None:
    migrate(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection, connection.cursor() as cursor:
        checkpoints.ensure(connection, [TopicFacts("a.events", "id", 3, "delete", -1, -1)])
        connection.execute("LISTEN mesh_positions")
        checkpoints.advance(cursor, {ONE: Advance(5, Counts(5, 4, 1), 86_400_000)}, announced=True)
        assert [json.loads(told.payload) for told in connection.notifies(stop_after=1, timeout=30)] == [
            {"a.events": {"0": 5}}
        ]
        # A negative count takes back an outcome; a record may have no time, or one that no calendar has.
        later = {
            ONE: Advance(6, Counts(1, 2, 0, -1, -1)),
            TWO: Advance(9, Counts(9, 9), 2**63 - 1),
            THREE: Advance(1, Counts(1, 0, 0, 1)),
        }
        checkpoints.advance(cursor, later)
        found = connection.execute(
            'SELECT "partition", next_offset, consumed, applied, ignored, dead_lettered, parked, event_time '
            'FROM mesh.checkpoints ORDER BY "partition"'
        ).fetchall()
    assert found == [
        (0, 6, 6, 6, 1, -1, -1, datetime(1970, 1, 2, tzinfo=UTC)),
        (1, 9, 9, 9, 0, 0, 0, datetime(9999, 12, 31, 23, 59, 59, 999_008, tzinfo=UTC)),
        (2, 1, 1, 0, 0, 1, 0, None),
    ]
