"""What a projector tells of itself: counters, lag, and topics that are refused too much of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from mesh_core.engine.intake import HEAD, Batch
from mesh_core.log.position import TopicPartition
from mesh_core.store.checkpoints import Counts
from mesh_core.telemetry import get_logger, metrics

log = get_logger(__name__)
COUNTERS = {
    "consumed": metrics.CONSUMED,
    "applied": metrics.APPLIED,
    "ignored": metrics.IGNORED,
    "dead_lettered": metrics.DEAD_LETTERED,
    "parked": metrics.PARKED,
}


def count(counts: Mapping[TopicPartition, Counts]) -> None:
    """Add what a committed batch came to; what a retry takes back from an outcome is not counted."""
    for partition, outcomes in counts.items():
        for name, counter in COUNTERS.items():
            counter.labels(partition.topic).inc(max(0, getattr(outcomes, name)))
        if outcomes.dead_lettered > 0:
            log.warning(
                "dead letters",
                topic=partition.topic,
                partition=partition.partition,
                count=outcomes.dead_lettered,
            )


def traceparents(batches: Sequence[Batch]) -> list[str]:
    """Trace contexts of the first events of each batch, for the links of its span."""
    found = [getattr(item, "traceparent", None) for batch in batches for item in batch.items[:HEAD]]
    return [context for context in found if context is not None][:HEAD]


def too_many_dead_letters(
    connection: psycopg.Connection[Any], positions: Mapping[TopicPartition, int], limit: int
) -> dict[str, str]:
    """Of the topics of these partitions, those with more than `limit` dead letters, and what to say of them."""
    rows = connection.execute(
        'SELECT topic, count(DISTINCT ("partition", "offset")) FROM mesh.held_events WHERE status = \'dead\' '
        "AND topic = ANY(%s) AND version_id IN (SELECT id FROM mesh.versions WHERE state = 'live') "
        "GROUP BY topic",
        (list({partition.topic for partition in positions}),),
    ).fetchall()
    return {
        topic: f"{count} dead letters are more than MESH_DEAD_LETTER_LIMIT={limit}: something is wrong with the "
        "topic itself, not with single events."
        for topic, count in rows
        if count > limit
    }


def measure_lag(
    connection: psycopg.Connection[Any],
    positions: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> None:
    """Set the lag metrics of owned partitions: records past the checkpoint, and the age of what was applied last."""
    rows = connection.execute(
        'SELECT topic, "partition", extract(epoch FROM clock_timestamp() - event_time)::float8 '
        "FROM mesh.checkpoints WHERE build = 0 AND event_time IS NOT NULL"
    ).fetchall()
    ages = {TopicPartition(topic, partition): seconds for topic, partition, seconds in rows}
    for partition, offset in positions.items():
        behind = max(0, ends.get(partition, offset) - offset)
        labels = (partition.topic, str(partition.partition))
        metrics.LAG_EVENTS.labels(*labels).set(behind)
        metrics.LAG_SECONDS.labels(*labels).set(max(0.0, ages.get(partition, 0.0)) if behind else 0.0)
