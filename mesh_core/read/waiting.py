"""Reads that must reflect something: they wait until what is read has come so far, or say why it has not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from mesh_core.log.position import Position, TopicPartition
from mesh_core.read.compiler import head_statement
from mesh_core.read.connections import Connection
from mesh_core.read.database import Reader
from mesh_core.read.errors import InvalidParameter, NotReached, Parked, TooStale
from mesh_core.read.versions import Feed, Live

T = TypeVar("T")
_STATE = """
SELECT EXISTS (SELECT FROM mesh.fan_out WHERE version_id = ANY(%s::int[])),
       (SELECT count(DISTINCT (h.topic, h."partition", h."offset")) FROM mesh.held_events AS h
        JOIN unnest(%s::text[], %s::int[], %s::bigint[]) AS wanted(topic, "partition", next_offset)
          ON (h.topic, h."partition") = (wanted.topic, wanted."partition") AND h."offset" < wanted.next_offset
        WHERE h.version_id = ANY(%s::int[])),
       (SELECT min(halted_reason) FROM mesh.checkpoints WHERE build = 0 AND topic = ANY(%s::text[]))
"""


@dataclass(frozen=True, slots=True)
class Demand:
    """What an answer must reflect: all below `minimum`, and be no older than `max_staleness` seconds.

    It is waited for up to `wait` seconds.
    """

    minimum: Position | None = None
    max_staleness: float | None = None
    wait: float = 0.0

    def __bool__(self) -> bool:
        return self.minimum is not None or self.max_staleness is not None


NOTHING = Demand()


@dataclass(frozen=True, slots=True)
class Met:
    """How a demand was met: events below the minimum that are `parked`, and topics of it that do not feed the view."""

    parked: int = 0
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _State:
    position: str
    age: float | None
    missing: Mapping[TopicPartition, int]
    spreading: bool
    parked: int
    halted: str | None


async def meeting(
    reader: Reader,
    demand: Demand,
    feed_of: Callable[[Live], Feed],
    read: Callable[[Live, Connection], Awaitable[T]],
    *,
    one: bool = False,
) -> tuple[T, Met]:
    """What `read` makes of the first snapshot that meets the demand. Raises ReadError.

    NotReached, TooStale where the time is up; of `one` row Parked, where an event below the minimum is parked.
    """
    until = monotonic() + demand.wait
    while True:
        seen = reader.changes.count
        async with reader.snapshot() as (live, connection):
            feed = feed_of(live)
            state = await _state(connection, feed, demand)
            stale = demand.max_staleness is not None and (
                state.age is None or state.age > demand.max_staleness
            )
            if not state.missing and not state.spreading and not stale:
                if state.parked and one:
                    raise Parked(
                        f"{state.parked} event{'s' if state.parked > 1 else ''} of what {feed.name} is made of "
                        "wait behind a dead letter, below Mesh-Min-Position.",
                        remedy="Decide on the dead letter (mesh dead-letters list), or read without Mesh-Min-Position.",
                    )
                return await read(live, connection), Met(state.parked, _ignored(demand, feed))
        left = until - monotonic()
        if left <= 0:
            raise _too_late(demand, state)
        await reader.changes.after(seen, state.missing, left)


async def waited(reader: Reader, demand: Demand, feed_of: Callable[[Live], Feed]) -> Met:
    """Where only the waiting is wanted, as `meeting`."""

    async def nothing(live: Live, connection: Connection) -> None:
        pass

    _, met = await meeting(reader, demand, feed_of, nothing)
    return met


def _ignored(demand: Demand, feed: Feed) -> tuple[str, ...]:
    topics = {partition.topic for partition in demand.minimum.offsets} if demand.minimum else set()
    return tuple(sorted(topics - set(feed.topics)))


async def _state(connection: Connection, feed: Feed, demand: Demand) -> _State:
    head = head_statement(feed.views, feed.topics)
    cursor = await connection.execute(head.text, head.parameters)
    _, position, age = (await cursor.fetchall())[0]
    wanted = (demand.minimum or Position()).restricted_to(feed.topics)
    parts = list(wanted.offsets.items())
    values: Sequence[object] = (
        list(feed.views) if demand.minimum else [],
        [at.topic for at, _ in parts],
        [at.partition for at, _ in parts],
        [offset for _, offset in parts],
        list(feed.entities),
        list(feed.topics),
    )
    cursor = await connection.execute(_STATE.encode(), values)
    spreading, parked, halted = (await cursor.fetchall())[0]
    reached = Position.from_json(json.loads(position))
    if unknown := [str(at) for at in wanted.offsets if at not in reached.offsets]:
        raise InvalidParameter(
            f"Mesh-Min-Position names {', '.join(sorted(unknown))}, which {feed.name} is not fed by.",
            remedy="Send the Mesh-Position that a write or a read answered.",
        )
    missing = {at: offset for at, offset in parts if reached.offsets[at] < offset}
    return _State(position, age, missing, spreading, parked, halted)


def _too_late(demand: Demand, state: _State) -> NotReached | TooStale:
    waited = f" within {demand.wait:g} s" if demand.wait else ""
    if state.missing or state.spreading:
        why = "rows that a wide change reaches are still being recomputed"
        if state.missing:
            why = f"it has come to {state.position}"
        if state.halted:
            why += f"; it is halted: {state.halted}"
        return NotReached(
            f"What was asked for by Mesh-Min-Position was not reached{waited}: {why}.",
            remedy="Read again, with Prefer: wait=SECONDS; if it stays, look at mesh status.",
            position=state.position,
            age=state.age,
        )
    age = "not known" if state.age is None else f"{state.age:g} s"
    return TooStale(
        f"The age is {age}, more than max-staleness={demand.max_staleness:g}{waited}.",
        remedy="Accept older rows, or look at mesh status for why the projector is behind.",
        position=state.position,
        age=state.age,
    )
