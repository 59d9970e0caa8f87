"""What a subject may see of the history of a row: what it would have seen of the row, had it looked after every event.

So of a state that its grants do not let through there is nothing, of the others only the columns that are granted, and a
step that changes nothing of it is none. Of the event behind a step it is told what its timeline would tell: nothing
without a grant of that, and nothing where the entry may not be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from mesh_core.model.grants import TIMELINE
from mesh_core.model.states import State, difference
from mesh_core.read.access import entries_seen
from mesh_core.read.connections import Connection
from mesh_core.read.database import Reader
from mesh_core.read.errors import InvalidCursor, ReadUnavailable
from mesh_core.read.grammar import Paging, limit_of
from mesh_core.read.rows import Page, view_of
from mesh_core.read.versions import Live, Version
from mesh_core.store.schemas import READ

EVENT = (
    "service",
    "type",
    "time",
    "recorded_at",
    "topic",
    "partition",
    "offset",
    "subject",
    "workflow_id",
    "id",
)
"""What a step tells of its event; null where that may not be seen."""
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True)
class Told:
    """A history whole, as plain data: of version `number` of a view, as of `position`.

    Each step has its event (`cause`), and all of the row `before` and `after`, null where there was none.
    """

    number: int
    position: str
    steps: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class HistoryPage:
    """A page of a history: at most `most` steps, of those that have at most `older` before them."""

    most: int
    older: int | None

    @classmethod
    def of(cls, limit: str | None, cursor: str | None, paging: Paging) -> HistoryPage:
        """Raises InvalidParameter or InvalidCursor.

        The cursor is how many older steps there are, which newer events do not change.
        """
        return cls(limit_of(limit, paging), None if cursor is None else _older(cursor))


async def history_seen(reader: Reader, view: str, told: Told, wanted: HistoryPage) -> Page:
    """A page of the steps that the reader's subject may see, the newest first. Raises ReadError."""
    async with reader.snapshot() as (live, connection):
        version = view_of(live, view)
        if version.number != told.number:
            raise ReadUnavailable(
                "Another version serves since the history was asked for.", remedy="Ask again."
            )
        states = await _states(connection, version, [step["after"] for step in told.steps])
        shown = await _events_shown(live, connection, [step["cause"] for step in told.steps])
    steps = list(_steps(told.steps, states, shown))
    end = len(steps) if wanted.older is None else min(wanted.older, len(steps))
    start = max(0, end - wanted.most)
    page = steps[start:end][::-1]
    following = str(start) if start > 0 else None
    body = _encoder.encode(page).decode()
    return Page(body, told.position, None, rows=len(page), next=following, prev=None)


def _older(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 10):
        raise InvalidCursor(
            "The cursor is not of a history.", remedy="Take it from the Link header of another page."
        )
    return int(cursor)


async def _states(
    connection: Connection, version: Version, rows: Sequence[State | None]
) -> list[State | None]:
    """What of each state of the row may be seen."""
    seen = version.seen
    if seen is None:
        return list(rows)
    if not seen.sql:
        return [None if row is None else {name: row[name] for name in seen.columns} for row in rows]
    relation = f'json_populate_record(NULL::{READ}."{version.relation}", e.said::json)'
    cursor = await connection.execute(
        f"SELECT (SELECT row_to_json(s)::text FROM {seen.of(relation)} AS s) "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS e(said, n) ORDER BY e.n".encode(),
        (*seen.values, [None if row is None else _encoder.encode(row).decode() for row in rows]),
    )
    found = [row[0] for row in await cursor.fetchall()]
    # Of no row there is a record of nulls, which a rule may let through.
    return [
        None if row is None or text is None else json.loads(text, parse_float=Decimal)
        for row, text in zip(rows, found, strict=True)
    ]


async def _events_shown(
    live: Live, connection: Connection, causes: Sequence[Mapping[str, Any]]
) -> list[bool]:
    """Whether each event would be in the subject's timeline, were it of a workflow."""
    if live.resources is None:
        return [True] * len(causes)
    if TIMELINE not in live.resources:
        return [False] * len(causes)
    condition, values = entries_seen(live, "e")
    entries = [_entry(cause) for cause in causes]
    cursor = await connection.execute(
        f"SELECT {condition} FROM unnest(%s::text[], %s::text[], %s::text[]) "
        "WITH ORDINALITY AS e(service, entity, key, n) ORDER BY e.n".encode(),
        (*values, *([entry[n] for entry in entries] for n in range(3))),
    )
    return [bool(row[0]) for row in await cursor.fetchall()]


def _entry(cause: Mapping[str, Any]) -> tuple[str, str, str]:
    service, entity = [*(cause["type"] or "").split("."), ""][:2]
    return service, entity, cause["subject"]


def _steps(
    steps: Iterable[Mapping[str, Any]], states: Iterable[State | None], shown: Iterable[bool]
) -> Iterable[dict[str, Any]]:
    before: State | None = None
    for step, after, is_shown in zip(steps, states, shown, strict=True):
        if before is None and after is None:
            continue
        change, columns = difference(before, after)
        if before is not None and after is not None and not columns:
            continue
        cause = step["cause"] if is_shown else {}
        yield {
            **{name: cause.get(name) for name in EVENT},
            "released": cause.get("released", []),
            "change": change,
            "columns": columns,
        }
        before = after
