"""Decisions on dead letters as of a position: those that `mesh.events` has below it, and no others."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import psycopg

from mesh_core.engine.intake import Intake
from mesh_core.engine.reading import Reader, is_behind
from mesh_core.engine.replay.extent import Extent
from mesh_core.engine.routing import BUILT_IN, Router, decision_in
from mesh_core.errors import UsageError
from mesh_core.log.interface import Driver
from mesh_core.log.position import Position, TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.store import checkpoints
from mesh_core.store.held import Place
from mesh_core.store.lookups import Decided, Decision


def decided_before(connection: psycopg.Connection[Any], driver: Driver, extent: Extent) -> Decided:
    """Decisions on records that a replay reads, made before it, each record's in their order.

    Raises UsageError where its position does not say which were made before it, though there are some.
    """
    topics, ends, facts = {at.topic for at in extent.ends}, extent.decided, extent.facts
    if not _any(connection, topics, ends):
        return {}
    router = Router({}, Intake((), BUILT_IN))
    found: dict[Place, list[Decision]] = {}
    with driver.consumer(None) as consumer:
        begins = consumer.beginning_offsets(ends)
        standing = {at: begins[at] for at, end in ends.items() if end > begins[at]}
        reader = Reader(consumer, router.intake)
        reader.assign(standing)
        while is_behind(standing, ends):
            for batch in reader.batches(standing, ends):
                standing[batch.partition] = batch.chunk.next_offset
                for offset, item in zip(batch.chunk.offsets, batch.items, strict=True):
                    decision = decision_in(item, offset, router)
                    if decision is None or decision.topic not in topics:
                        continue
                    at, letter = decision.letter
                    if decision.topic_id == facts[at.topic].topic_id and letter < extent.ends.get(at, 0):
                        found.setdefault(decision.letter, []).append(decision)
    if found and not extent.names_decisions:
        raise UsageError(
            f"There are decisions on {len(found)} dead letters before the position, which does not say whether they had "
            f"been made: it does not name {MESH_TOPIC}.",
            remedy=f"Name it, too: with {json.dumps(Position(ends).to_json())} all that have been made until now count.",
        )
    return found


def _any(
    connection: psycopg.Connection[Any], topics: Collection[str], ends: Mapping[TopicPartition, int]
) -> bool:
    """Whether there can be any: what is folded of `mesh.events` has some, or not all of it is folded."""
    live = checkpoints.read(connection, [MESH_TOPIC])
    if any(at not in live or live[at].next_offset < end for at, end in ends.items()):
        return True
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM mesh.decisions WHERE topic = ANY(%s))", (list(topics),)
    ).fetchone()
    return bool(row and row[0])
