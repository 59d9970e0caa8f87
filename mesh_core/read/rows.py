"""Rows of a view: a page of them, or one."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mesh_core.read.compiler import list_statement, point_statement
from mesh_core.read.cursor import encode_cursor
from mesh_core.read.database import Database, Row
from mesh_core.read.errors import RowNotFound, ViewNotFound, listing, nearest
from mesh_core.read.grammar import Parameters, list_query, point_query, shown
from mesh_core.read.versions import Live, Version


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON text, and the position of the snapshot that it was read in, as a `Mesh-Position` header has it."""

    body: str
    position: str


@dataclass(frozen=True, slots=True)
class Page(Answer):
    """An array of rows; `next` is the cursor of the page after it, None on the last."""

    next: str | None


async def list_rows(
    database: Database, view: str, parameters: Parameters, *, limit: int, limit_max: int
) -> Page:
    """A page of rows in the order of the key. Raises ReadError."""
    live, row = await database.read(
        lambda live: list_statement(
            list_query(view_of(live, view), parameters, limit=limit, limit_max=limit_max)
        )
    )
    return page_of(live.views[view].number, row)


def page_of(number: int, row: Row) -> Page:
    """The page that the row of a `page_statement` tells; `number` is the version that its cursor carries."""
    _, position, body, last, more = row
    return Page(body, position, encode_cursor(number, json.loads(last)) if more else None)


async def one_row(database: Database, view: str, key: str) -> Answer:
    """The row with this canonical key text. Raises RowNotFound or another ReadError."""
    _, row = await database.read(lambda live: point_statement(point_query(view_of(live, view), key)))
    _, position, body = row
    if body is None:
        raise RowNotFound(
            f"{view} has no row with the key {shown(key)}.",
            remedy="Check the key; a row that was just written is there once Mesh-Position has reached it.",
        )
    return Answer(body, position)


def view_of(live: Live, name: str) -> Version:
    """The live version of a view. Raises ViewNotFound."""
    version = live.views.get(name)
    if version is None:
        raise ViewNotFound(
            f"There is no view {shown(name)}.",
            remedy=f"{nearest(name, live.views)}Views: {listing(live.views)}. A new one needs mesh deploy.",
        )
    return version
