"""Several queries, answered from one snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from mesh_core.read.compiler import head_statement
from mesh_core.read.connections import Connection
from mesh_core.read.database import Reader
from mesh_core.read.errors import InvalidParameter, ReadError, RowNotFound, shown
from mesh_core.read.grammar import Paging, list_query, only_select, point_query
from mesh_core.read.rows import Answer, page_within, row_within, view_of
from mesh_core.read.versions import Feed, Live, Version
from mesh_core.read.waiting import Demand, meeting

MAX_QUERIES = 50


@dataclass(frozen=True, slots=True)
class Asked:
    """One of several queries: rows of a view, or the one with a `key`. A parameter may have several values."""

    view: str
    parameters: Mapping[str, str | Sequence[str]]
    key: str | None = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The parameters as those of a URL. Raises InvalidParameter at one without a value."""
        if empty := [
            name for name, values in self.parameters.items() if not isinstance(values, str) and not values
        ]:
            raise InvalidParameter(f"{shown(empty[0])} has no value.", remedy="Give it one, or leave it out.")
        return [
            (name, value)
            for name, values in self.parameters.items()
            for value in ([values] if isinstance(values, str) else values)
        ]


async def answer_several(reader: Reader, queries: Sequence[Asked], paging: Paging, demand: Demand) -> Answer:
    """`results` of all, in their order, with the one position that they have. Raises ReadError, naming the query."""
    if not 1 <= len(queries) <= MAX_QUERIES:
        raise InvalidParameter(
            f"There are {len(queries)} queries, not 1 to {MAX_QUERIES}.",
            remedy="Ask in several requests." if queries else "Send a list of queries.",
        )

    def feed(live: Live) -> Feed:
        found: dict[str, Version] = {}
        for number, asked in enumerate(queries):
            with _numbered(number):
                found[asked.view] = view_of(live, asked.view)
        return Feed.of(found.values())

    async def read(live: Live, connection: Connection) -> Answer:
        fed_by = feed(live)
        head = head_statement(fed_by.views, fed_by.topics)
        cursor = await connection.execute(head.text, head.parameters)
        _, position, age = (await cursor.fetchall())[0]
        results = []
        for number, asked in enumerate(queries):
            with _numbered(number):
                results.append(await _result(live, connection, asked, paging))
        document = {"position": msgspec.Raw(position.encode()), "results": results}
        return Answer(msgspec.json.encode(document).decode(), position, age)

    if demand:
        answer, met = await meeting(reader, demand, feed, read)
        return replace(answer, met=met)
    async with reader.snapshot() as (live, connection):
        return await read(live, connection)


@contextmanager
def _numbered(number: int) -> Iterator[None]:
    """What goes wrong within says in which query."""
    try:
        yield
    except ReadError as error:
        error.args = (f"Query {number}: {error.args[0]}", *error.args[1:])
        raise


async def _result(live: Live, connection: Connection, asked: Asked, paging: Paging) -> dict[str, Any]:
    version = view_of(live, asked.view)
    if asked.key is not None:
        query = point_query(version, asked.key, only_select(asked.pairs))
        try:
            row = (await row_within(connection, query, asked.key)).body
        except RowNotFound:
            row = "null"
        return {"row": msgspec.Raw(row.encode())}
    page = await page_within(connection, list_query(version, asked.pairs, paging), paging)
    result: dict[str, Any] = {"rows": msgspec.Raw(page.body.encode()), "next": page.next, "prev": page.prev}
    if page.count is not None:
        result["count"] = page.count
    return result
