"""Registrations that were acknowledged are in the log; a deploy must find them folded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from mesh_core.log.interface import Admin, Driver
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.store import checkpoints
from mesh_core.store.registrations import registrations

WAIT_SECONDS = 10.0
PAUSE_SECONDS = 0.05


def settle(
    connection: psycopg.Connection[Any],
    admin: Admin,
    driver: Driver,
    progress: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Wait until a projector has applied what `mesh.events` has now; a sentence for people where none does.

    Raises LogUnavailable.
    """
    if registrations(connection) is None or MESH_TOPIC not in (facts := admin.describe([MESH_TOPIC])):
        return []
    with driver.consumer() as consumer:
        ends = consumer.end_offsets(
            [TopicPartition(MESH_TOPIC, n) for n in range(facts[MESH_TOPIC].partitions)]
        )
    until = time.monotonic() + WAIT_SECONDS
    while behind := _behind(connection, ends):
        if time.monotonic() > until or not _projecting(connection):
            return [
                f"Of {MESH_TOPIC} the last {behind} are not applied yet, and no projector gets to them: views that they "
                "register, change or remove are not part of this."
            ]
        progress("waiting until what was registered is applied")
        time.sleep(PAUSE_SECONDS)
    return []


def _behind(connection: psycopg.Connection[Any], ends: dict[TopicPartition, int]) -> int:
    """How many records lie between the checkpoints and these ends."""
    at = checkpoints.read(connection, [MESH_TOPIC])
    return sum(max(0, end - (at[part].next_offset if part in at else 0)) for part, end in ends.items())


def _projecting(connection: psycopg.Connection[Any]) -> bool:
    """Whether a projector is connected."""
    row = connection.execute(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mesh projector'"
    ).fetchone()
    return row is not None
