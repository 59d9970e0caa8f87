"""Decisions on dead letters: named, published on `mesh.events`, waited for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import psycopg

from mesh_core.cli.surroundings import Surroundings
from mesh_core.emit import Publisher
from mesh_core.errors import MeshError, UsageError
from mesh_core.log import Delivered, TopicPartition
from mesh_core.model.builtin import DeadLetterDecided, EntryRegistered
from mesh_core.model.event import TYPE_PATTERN, Event
from mesh_core.read import mesh_status
from mesh_core.store import held
from mesh_core.store.held import HeldRow

Action = Literal["retry", "edit", "discard"]


class NoSuchLetter(MeshError):
    """There is no dead letter of that name."""


class NotDecidedInTime(MeshError):
    """The decision is published, but no projector has applied it yet."""


def parse(address: str) -> tuple[TopicPartition, int]:
    """(partition, offset) of TOPIC/PARTITION/OFFSET. Raises UsageError."""
    topic, _, rest = address.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise UsageError(
            f"{address!r} does not read TOPIC/PARTITION/OFFSET.",
            remedy="Take it from mesh dead-letters list; for example sales.events/0/17.",
        )
    return TopicPartition(topic, int(partition)), int(offset)


def find(connection: psycopg.Connection[Any], address: str) -> list[HeldRow]:
    """What holds the record of that address, dead or parked. Raises NoSuchLetter."""
    rows = held.rows_at(connection, parse(address))
    if not rows:
        raise NoSuchLetter(f"Nothing is held at {address}.", remedy="See mesh dead-letters list.")
    return rows


def find_dead(connection: psycopg.Connection[Any], address: str) -> HeldRow:
    """The dead letter of that address. Raises NoSuchLetter, also for an event that is only parked."""
    for row in find(connection, address):
        if row.status == "dead":
            return row
    raise NoSuchLetter(
        f"{address} is parked behind a dead letter of its key.",
        remedy="Decide on that one, and this follows: see mesh dead-letters list.",
    )


def decide(
    mesh: Surroundings, letters: Sequence[HeldRow], action: Action, value: str | None = None
) -> list[Delivered]:
    """Publish a decision on each letter; where in the log that is.

    The entry of a workflow that an edit names is registered beside it: the edit itself registers none, since what
    it comes to depends on when it is made.
    """
    facts: list[Event] = [
        DeadLetterDecided(
            letter_topic=row.topic,
            letter_topic_id=row.topic_id,
            letter_partition=row.partition,
            letter_offset=row.offset,
            action=action,
            value=value,
        )
        for row in letters
    ]
    if value is not None:
        facts += [entry for row in letters if (entry := _entry(row, json.loads(value))) is not None]
    with Publisher(mesh.reachable_driver(), source="/mesh/dead-letters") as publisher:
        sent = [publisher.publish(fact) for fact in facts]
        publisher.flush()
        return [future.result() for future in sent]


def _entry(row: HeldRow, event: Mapping[str, Any]) -> EntryRegistered | None:
    """The entry that an edited event would have registered, had it been published as it is now."""
    named = TYPE_PATTERN.fullmatch(event["type"])
    if event.get("workflowid") is None or named is None:
        return None
    return EntryRegistered(
        workflow_id=UUID(event["workflowid"]),
        entry_service=named["service"],
        entry_entity=named["entity"],
        entry_key=row.record_key,
    )


def wait(mesh: Surroundings, decisions: Sequence[Delivered], seconds: float) -> None:
    """Wait until the decisions are carried out. Raises NotDecidedInTime."""
    deadline = time.monotonic() + seconds
    while True:
        position = mesh_status(mesh.database_url).position.offsets
        if all(position.get(decision.partition, 0) > decision.offset for decision in decisions):
            return
        if time.monotonic() > deadline:
            raise NotDecidedInTime(remedy="Check that a projector runs: mesh status.")
        time.sleep(0.1)


def outcome(connection: psycopg.Connection[Any], row: HeldRow) -> tuple[bool, str]:
    """Whether a decided letter is one no more, and what became of it in words."""
    rows = held.rows_at(connection, (TopicPartition(row.topic, row.partition), row.offset))
    for now in rows:
        if now.status == "dead":
            return False, f"refused again: {now.reason}: {now.detail}"
    return True, "waits for an earlier dead letter of its key" if rows else "done"
