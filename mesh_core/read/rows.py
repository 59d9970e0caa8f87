"""Rows of a view: a page of them, one, or all of them as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from mesh_core.model.view_model import CacheLevel
from mesh_core.read.compiler import (
    Statement,
    head_statement,
    list_statement,
    plan_statement,
    point_statement,
    rows_statement,
)
from mesh_core.read.connections import Connection, Row
from mesh_core.read.cursor import encode_cursor
from mesh_core.read.database import Reader
from mesh_core.read.errors import RowNotFound, TooManyRows, ViewNotFound, listing, nearest, shown
from mesh_core.read.grammar import Paging, Parameters, list_query, point_query
from mesh_core.read.queries import ListQuery, Place, PointQuery
from mesh_core.read.repeated import Repeated
from mesh_core.read.versions import Feed, Live, Version
from mesh_core.read.waiting import NOTHING, Demand, Met, meeting, waited

_repeated = Repeated()
FETCHED = 1000
"""Rows of a stream that are in memory at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON text, and the position of the snapshot that it was read in, as a `Mesh-Position` header has it.

    `age` is for how many seconds it may have been behind the log; None where that is not known.
    """

    body: str
    position: str
    age: float | None
    met: Met = field(default=Met(), kw_only=True)
    """How a demand on the answer was met."""
    cache: CacheLevel = field(default=None, kw_only=True)
    """For how long it may be used again."""


@dataclass(frozen=True, slots=True)
class Page(Answer):
    """An array of so many `rows`. `next` and `prev` are cursors of the pages beside it, None where there are none.

    `count` is how many rows there are in all, where that was asked for; `first` whether nothing comes before.
    """

    rows: int
    next: str | None
    prev: str | None
    count: int | None = None
    first: bool = True


@dataclass(frozen=True, slots=True)
class Stream:
    """All rows of a list from one snapshot: `chunks` of rows, each a tuple of the values of `columns` as text."""

    columns: tuple[str, ...]
    position: str
    age: float | None
    chunks: AsyncIterator[Sequence[Row]]
    met: Met


async def list_rows(
    reader: Reader, view: str, parameters: Parameters, paging: Paging, demand: Demand = NOTHING
) -> Page:
    """A page of rows, as its parameters say, that meets the demand. Raises ReadError."""
    if not demand and not any(name in ("count", "cursor") for name, _ in parameters):
        found: list[ListQuery] = []

        def build(live: Live) -> Statement:
            query, statement = _repeated.statement(view_of(live, view), parameters, paging)
            found.append(query)
            return statement

        _, row = await reader.read(build)
        return page_of(found[-1], row, paging)
    planned = any(name == "count" and value in ("planned", "estimated") for name, value in parameters)
    return await read_page(
        reader,
        lambda live: list_query(view_of(live, view), parameters, paging),
        lambda live: Feed.of([view_of(live, view)]),
        paging,
        demand,
        planned=planned,
    )


async def read_page(
    reader: Reader,
    query: Callable[[Live], ListQuery],
    feed: Callable[[Live], Feed],
    paging: Paging,
    demand: Demand,
    *,
    planned: bool = False,
) -> Page:
    """A page of what `feed` feeds, that meets the demand; `planned` if its count may need a plan. Raises ReadError."""
    if demand:
        page, met = await meeting(
            reader, demand, feed, lambda live, connection: page_within(connection, query(live), paging)
        )
        return replace(page, met=met)
    if planned:
        async with reader.snapshot() as (live, connection):
            return await page_within(connection, query(live), paging)
    built: list[ListQuery] = []

    def build(live: Live) -> Statement:
        built.append(query(live))
        return list_statement(built[-1])

    _, row = await reader.read(build)
    return page_of(built[-1], row, paging)


async def page_within(connection: Connection, query: ListQuery, paging: Paging) -> Page:
    """A page that is read in the snapshot of a connection."""
    statement = list_statement(query)
    cursor = await connection.execute(statement.text, statement.parameters)
    page = page_of(query, (await cursor.fetchall())[0], paging)
    # An estimate is exact up to a bound; past that, as with `planned`, it is what Postgres plans for.
    if query.count == "planned" or (query.count == "estimated" and page.count is None):
        statement = plan_statement(query)
        cursor = await connection.execute(statement.text, statement.parameters)
        planned = (await cursor.fetchall())[0][0][0]["Plan"]["Plan Rows"]
        return replace(page, count=int(planned))
    return page


def page_of(query: ListQuery, row: Row, paging: Paging) -> Page:
    """The page that the row of a `list_statement` tells."""
    _, position, age, body, found, nearest_place, farthest_place, count = row
    rows = min(found, query.limit)
    place = query.place

    def cursor(values: str | None, *, backwards: bool) -> str | None:
        if not rows or values is None:
            return None
        return encode_cursor(paging.key, query.scope, Place(tuple(json.loads(values)), backwards))

    onward = cursor(farthest_place, backwards=place is not None and place.backwards) if found > rows else None
    back = cursor(nearest_place, backwards=not place.backwards) if place is not None else None
    forwards = place is None or not place.backwards
    first = place is None or (place.backwards and found == rows)
    following, before = (onward, back) if forwards else (back, onward)
    return Page(body, position, age, rows, following, before, count, first, cache=query.source.cache)


@asynccontextmanager
async def stream_rows(
    reader: Reader,
    view: str,
    parameters: Parameters,
    paging: Paging,
    demand: Demand = NOTHING,
    *,
    as_json: bool,
) -> AsyncIterator[Stream]:
    """All rows that the parameters select, in their order, with bounded memory. Raises ReadError.

    Where no limit is asked for and there are more than may be, `chunks` raises TooManyRows in the midst of it.
    With `as_json` each row is one value, its JSON text; else there is one a column, None where it has none.
    """
    met = Met()
    if demand:  # a later snapshot meets what an earlier one did
        met = await waited(reader, demand, lambda live: Feed.of([view_of(live, view)]))
    async with reader.streaming() as (live, connection):
        query = list_query(view_of(live, view), parameters, paging, unbounded=True)
        head = head_statement(query.source.versions, query.source.topics)
        cursor = await connection.execute(head.text, head.parameters)
        _, position, age = (await cursor.fetchall())[0]
        statement = rows_statement(query, as_json=as_json)

        async def chunks() -> AsyncIterator[Sequence[Row]]:
            async with connection.cursor(name="rows") as rows:
                await rows.execute(statement.text, statement.parameters)
                sent = 0
                while found := await rows.fetchmany(FETCHED):
                    sent += len(found)
                    if sent > paging.rows:
                        raise TooManyRows(remedy="Filter, or read by pages.")
                    yield found

        yield Stream(tuple(output.name for output in query.outputs), position, age, chunks(), met)


async def one_row(
    reader: Reader, view: str, key: str, select: str | None = None, demand: Demand = NOTHING
) -> Answer:
    """The row with this canonical key text, that meets the demand. Raises RowNotFound or another ReadError."""
    if demand:
        answer, met = await meeting(
            reader,
            demand,
            lambda live: Feed.of([view_of(live, view)]),
            lambda live, connection: row_within(
                connection, point_query(view_of(live, view), key, select), key
            ),
            one=True,
        )
        return replace(answer, met=met)
    live, row = await reader.read(lambda live: point_statement(point_query(view_of(live, view), key, select)))
    return row_of(view_of(live, view), key, row)


async def row_within(connection: Connection, query: PointQuery, key: str) -> Answer:
    """A row that is read in the snapshot of a connection. Raises RowNotFound."""
    statement = point_statement(query)
    cursor = await connection.execute(statement.text, statement.parameters)
    return row_of(query.version, key, (await cursor.fetchall())[0])


def row_of(version: Version, key: str, row: Row) -> Answer:
    """The answer that the row of a `point_statement` tells. Raises RowNotFound."""
    _, position, age, body = row
    if body is None:
        raise RowNotFound(
            f"{version.name} has no row with the key {shown(key)}.",
            remedy="Check the key; a row that was just written is there once Mesh-Position has reached it.",
        )
    return Answer(body, position, age, cache=version.cache)


def view_of(live: Live, name: str) -> Version:
    """The live version of a view. Raises ViewNotFound."""
    version = live.views.get(name)
    if version is None:
        raise ViewNotFound(
            f"There is no view {shown(name)}.",
            remedy=f"{nearest(name, live.views)}Views: {listing(live.views)}. A new one needs mesh deploy.",
        )
    return version
