"""When what happened: the index of events, without reading Kafka."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from mesh_core.model.types import ColumnKind
from mesh_core.read.compiler import bound, page_statement, page_text
from mesh_core.read.cursor import decode_cursor
from mesh_core.read.database import Database
from mesh_core.read.errors import InvalidCursor, InvalidValue
from mesh_core.read.rows import Page, page_of
from mesh_core.read.values import canonical

FILTERS: Mapping[str, tuple[str, ColumnKind]] = {
    "workflow": ("workflow_id", "uuid"),
    "service": ("service", "text"),
    "entity": ("entity", "text"),
    "subject": ("key", "text"),
    "type": ("type", "text"),
}
"""Parameters, the columns of the index that they are compared with, and their types."""

_ORDER: Mapping[str, ColumnKind] = {
    "time": "timestamptz",
    "topic": "text",
    "partition": "int",
    "offset": "int",
}
_SOURCE = sql.SQL(
    'SELECT time, type, service, entity, key AS subject, workflow_id, topic, partition, "offset" '
    "FROM mesh.event_index"
).format()


async def timeline(
    database: Database, filters: Mapping[str, str], *, limit: int, cursor: str | None = None
) -> Page:
    """Events that belong to a workflow, in the order of their time, by any of FILTERS. Raises ReadError.

    A row tells where the event is in the log, not what it says.
    """
    conditions = []
    values = []
    for name, text in filters.items():
        column, kind = FILTERS[name]
        conditions.append(sql.SQL("{} = {}").format(sql.Identifier(column), bound(kind)))
        values.append(checked(name, kind, text))
    after = cursor_values(cursor, _ORDER) if cursor is not None else None
    page = page_text(_SOURCE, conditions, _ORDER, after is not None)
    _, row = await database.read(lambda live: page_statement(page, live.topics, values, after, limit))
    return page_of(0, row)


def checked(name: str, kind: ColumnKind, text: str) -> str:
    """`text` as Postgres takes it. Raises InvalidValue naming the parameter."""
    try:
        return canonical(kind, text)
    except ValueError as error:
        raise InvalidValue(f"{name}: {error}.", remedy=f"Correct the value of {name}.") from None


def cursor_values(cursor: str, order: Mapping[str, ColumnKind]) -> tuple[str, ...]:
    """Where a page in this order ended. Raises InvalidCursor."""
    _, parts = decode_cursor(cursor)
    try:
        return tuple(canonical(kind, part) for kind, part in zip(order.values(), parts, strict=True))
    except ValueError:
        raise InvalidCursor(remedy='Take the cursor from the Link header, rel="next".') from None
