"""The views that are registered as data, with who did it and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from psycopg import sql

from mesh_core.model.builtin import MESH_TOPIC, REGISTERED
from mesh_core.model.types import ColumnKind
from mesh_core.read.compiler import Statement, head_values, headed, point_statement, table
from mesh_core.read.database import Reader
from mesh_core.read.errors import NotDeployed, RowNotFound, ViewNotRegistered, shown
from mesh_core.read.grammar import Paging, fixed_query, point_query, source_of
from mesh_core.read.queries import ListQuery
from mesh_core.read.rows import Answer, Page, read_page, row_of, row_within
from mesh_core.read.versions import Feed, Live, Version
from mesh_core.read.waiting import NOTHING, Demand, meeting

_COLUMNS: Mapping[str, ColumnKind] = {
    "name": "text",
    "declaration": "json",
    "registered_at": "timestamptz",
    "registered_by": "text",
}


async def registered_views(
    reader: Reader,
    paging: Paging,
    *,
    limit: str | None = None,
    cursor: str | None = None,
    demand: Demand = NOTHING,
) -> Page:
    """The registered views in the order of their names. Raises ReadError."""

    def query(live: Live) -> ListQuery:
        return fixed_query(source_of(_registered(live)), _COLUMNS, ("name",), paging, limit, cursor)

    return await read_page(reader, query, _feed, paging, demand)


async def registered_view(reader: Reader, name: str, demand: Demand = NOTHING) -> Answer:
    """The registered view of this name. Raises ViewNotRegistered or another ReadError."""
    try:
        if demand:
            answer, met = await meeting(
                reader,
                demand,
                _feed,
                lambda live, connection: row_within(
                    connection, point_query(_registered(live), name, None), name
                ),
                one=True,
            )
            return replace(answer, met=met)
        live, row = await reader.read(
            lambda live: point_statement(point_query(_registered(live), name, None))
        )
        return row_of(_registered(live), name, row)
    except RowNotFound:
        raise ViewNotRegistered(
            f"No view {shown(name)} is registered.",
            remedy="GET /v1/admin/views names those that are; one just registered is there once Mesh-Position has "
            "reached its event.",
        ) from None


async def undeployed(reader: Reader) -> list[str]:
    """Names of registered views that do not serve yet. Raises ReadError."""
    live, row = await reader.read(lambda live: _names_statement(_registered(live)))
    return [name for name in row[-1] if name not in live.views]


def _names_statement(version: Version) -> Statement:
    names = sql.SQL("(SELECT coalesce(array_agg(name ORDER BY name), '{{}}') FROM {})").format(table(version))
    return Statement(headed(names.as_string()).encode(), head_values((), (MESH_TOPIC,)))


def _registered(live: Live) -> Version:
    try:
        return live.own[REGISTERED]
    except KeyError:
        raise NotDeployed(remedy="Run mesh deploy.") from None


def _feed(live: Live) -> Feed:
    return Feed("registered views", (MESH_TOPIC,), (_registered(live).id,))
