"""Counts held records anew when entity versions take the place of others. The barrier must be held."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

import psycopg

from mesh_core.engine.verdicts import STATUS_OUTCOME, worst
from mesh_core.log.position import TopicPartition
from mesh_core.store import checkpoints
from mesh_core.store.checkpoints import Advance, Counts
from mesh_core.store.held import Place


def recount(
    connection: psycopg.Connection[Any],
    replaced: Sequence[tuple[int | None, int | None]],
    live: Collection[int],
    uncounted: Collection[str] = (),
) -> None:
    """Count the records that an old or a new version holds as they are held from now on.

    `replaced` are (old version id, new one), of which one may be None; `live` are the versions that counted until now.
    Topics that were `uncounted` are counted by the build itself. What a version that does not hold a record came to is not
    known any more: it is taken for applied, as long as any are counted so.
    """
    successors = {old: new for old, new in replaced if old is not None}
    arriving = {new for _, new in replaced if new is not None}
    rows = connection.execute(
        'SELECT topic, "partition", "offset", version_id, status, otherwise, counted FROM mesh.held_events '
        'WHERE (topic, "partition", "offset") IN (SELECT topic, "partition", "offset" FROM mesh.held_events '
        'WHERE version_id = ANY(%s)) AND version_id = ANY(%s) AND topic <> ALL(%s) ORDER BY topic, "partition", "offset"',
        ([*successors, *arriving], [*live, *arriving], list(uncounted)),
    ).fetchall()
    applied: dict[TopicPartition, int] = {
        TopicPartition(topic, partition): count
        for topic, partition, count in connection.execute(
            'SELECT topic, "partition", applied FROM mesh.checkpoints WHERE build = 0'
        )
    }
    moves: dict[TopicPartition, Counts] = {}
    changes: list[tuple[str, str, Place]] = []
    for (topic, number, offset), group in groupby(rows, key=lambda row: row[:3]):
        partition = TopicPartition(topic, number)
        held = {version: rest for _, _, _, version, *rest in group}
        before = [rest for version, rest in held.items() if version not in arriving]
        moved = moves.setdefault(partition, Counts())
        if before:
            _, otherwise, counted = before[0]
        else:
            left = applied.get(partition, 0) + moved.applied
            otherwise = counted = "applied" if left > 0 else "ignored"
        if any((new := successors.get(version)) is not None and new not in held for version in held):
            otherwise = worst([otherwise, "applied"])
        after = [
            STATUS_OUTCOME[status] for version, (status, *_) in held.items() if version not in successors
        ]
        outcome = worst([otherwise, *after])
        moved.add(counted, -1)
        moved.add(outcome)
        changes.append((otherwise, outcome, (partition, offset)))
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE mesh.held_events SET otherwise = %s, counted = %s "
            'WHERE topic = %s AND "partition" = %s AND "offset" = %s',
            [
                (otherwise, outcome, at.topic, at.partition, offset)
                for otherwise, outcome, (at, offset) in changes
            ],
        )
        now = checkpoints.read(connection, {partition.topic for partition in moves})
        checkpoints.advance(
            cursor, {at: Advance(now[at].next_offset, counts) for at, counts in moves.items() if at in now}
        )
