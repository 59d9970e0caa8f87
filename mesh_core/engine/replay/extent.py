"""How far a replay reads: the position that a moment comes to, and whether the log still has all that lies before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from mesh_core.engine.guard import topic_problem
from mesh_core.engine.replay.errors import ReplayRefused
from mesh_core.errors import UsageError
from mesh_core.log.interface import Consumer, Driver, TopicFacts
from mesh_core.log.moment import milliseconds
from mesh_core.log.position import Position, TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.store import checkpoints


@dataclass(frozen=True)
class Extent:
    """Where the log begins and where the replay ends, by partition of the topics that feed it.

    `decided` are the ends of the topic that decisions on dead letters are in; `names_decisions` tells whether they were asked
    for, or follow from what was, or are all that there is.
    """

    facts: Mapping[str, TopicFacts]
    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    decided: Mapping[TopicPartition, int]
    names_decisions: bool = True

    @property
    def position(self) -> Position:
        """What the rows are as of."""
        return Position(self.ends)

    @property
    def wanted(self) -> dict[TopicPartition, int]:
        """Partitions of which there is anything to read, and up to where."""
        return {at: end for at, end in self.ends.items() if end > self.begins[at]}

    @property
    def total(self) -> int:
        """How many records there are to read, aborted ones included."""
        return sum(end - self.begins[at] for at, end in self.wanted.items())


def extent(
    connection: psycopg.Connection[Any],
    driver: Driver,
    topics: Collection[str],
    as_of: Position | datetime | None,
    *,
    accept_truncated: bool,
) -> Extent:
    """What of these topics lies before a moment; None is what the live checkpoints have come to.

    Raises UsageError for a position that the log has not, ReplayRefused where the log has lost what lies before it,
    LogUnavailable while Kafka is down.
    """
    names = sorted({*topics, MESH_TOPIC})
    with driver.admin() as admin:
        facts = admin.describe(names)
    if missing := [name for name in names if name not in facts]:
        raise ReplayRefused(
            f"The topic {missing[0]} does not exist any more.",
            remedy="Restore it; what it had cannot be replayed.",
        )
    partitions = [TopicPartition(name, n) for name in names for n in range(facts[name].partitions)]
    live = checkpoints.read(connection, names)
    with driver.consumer(None) as consumer:
        begins, last = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        if isinstance(as_of, datetime):
            ends = _at_time(consumer, partitions, as_of, last)
        elif as_of is None:
            ends = {at: live[at].next_offset if at in live else last[at] for at in partitions}
        else:
            ends = _at_position(as_of, topics, partitions, last)
    for name in names:
        rows = [row for at, row in live.items() if at.topic == name and row.next_offset]
        if any(row.topic_id != facts[name].topic_id for row in rows) and (
            problem := topic_problem(name, facts[name], rows, begins, last)
        ):
            raise ReplayRefused(problem, remedy="Restore the topic: a replay would be of another history.")
    cut = {at: begins[at] for at in partitions if begins[at] > 0 and ends[at] > 0}
    if cut and not accept_truncated:
        said = ", ".join(f"{at} starts at {offset}" for at, offset in sorted(cut.items()))
        raise ReplayRefused(
            f"The log no longer has its beginning ({said}), so rows would be missing.",
            remedy="Name an archive of it in MESH_ARCHIVE, if mesh events export made one in time; or replay what is left, "
            "--accept-truncated.",
        )
    own = {at: offset for at, offset in ends.items() if at.topic == MESH_TOPIC}
    ends = {at: offset for at, offset in ends.items() if at.topic in topics}
    starts = {at: min(begins[at], ends.get(at, begins[at])) for at in partitions}
    named = not isinstance(as_of, Position) or any(at.topic == MESH_TOPIC for at in as_of.offsets)
    return Extent(facts, starts, ends, own, named)


def _at_time(
    consumer: Consumer,
    partitions: Collection[TopicPartition],
    time: datetime,
    last: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    found = consumer.offsets_for_time(partitions, milliseconds(time))
    return {at: min(found[at], last[at]) for at in partitions}


def _at_position(
    position: Position,
    topics: Collection[str],
    partitions: Collection[TopicPartition],
    last: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The partitions that it does not name stand at 0, but for those of `mesh.events` where it names none of them."""
    named = {at.topic for at in position.offsets}
    if missing := sorted(set(topics) - named):
        raise UsageError(
            f"The position does not name {', '.join(missing)}, which feeds the view, or entries of workflows that are asked for.",
            remedy='Name every topic, such as {"sales.events": {"0": 42}}; {"0": 0} is its beginning. Or give a time.',
        )
    known = set(partitions)
    for at, offset in sorted(position.offsets.items()):
        if at.topic in topics and at not in known:
            raise UsageError(f"There is no partition {at}.", remedy="See mesh status.")
        if at in known and offset > last[at]:
            raise UsageError(
                f"The log of {at} ends at {last[at]}, before {offset}.", remedy="Name a position that it has."
            )
    return {
        at: last[at] if at.topic not in named and at.topic not in topics else position.offsets.get(at, 0)
        for at in partitions
    }
