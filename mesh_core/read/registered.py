"""The views that are registered as data, with who did it and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from psycopg import sql

from mesh_core.model.builtin import MESH_TOPIC, REGISTERED
from mesh_core.model.types import ColumnKind
from mesh_core.read.compiler import Statement, head_values, headed, point_statement, table
from mesh_core.read.database import Reader
from mesh_core.read.errors import NotDeployed, NotFound, RowNotFound, ViewNotRegistered, shown
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
        return fixed_query(source_of(_own(live, REGISTERED)), _COLUMNS, ("name",), paging, limit, cursor)

    return await read_page(reader, query, partial(own_feed, entity=REGISTERED), paging, demand)


async def registered_view(reader: Reader, name: str, demand: Demand = NOTHING) -> Answer:
    """The registered view of this name. Raises ViewNotRegistered or another ReadError."""
    return await own_row(
        reader,
        REGISTERED,
        name,
        demand,
        ViewNotRegistered(
            f"No view {shown(name)} is registered.",
            remedy="GET /v1/admin/views names those that are; one just registered is there once Mesh-Position has "
            "reached its event.",
        ),
    )


async def own_row(reader: Reader, entity: str, key: str, demand: Demand, missing: NotFound) -> Answer:
    """The row with this key of an entity of the mesh's own. Raises `missing`, NotDeployed or another ReadError."""
    try:
        if demand:
            answer, met = await meeting(
                reader,
                demand,
                partial(own_feed, entity=entity),
                lambda live, connection: row_within(
                    connection, point_query(_own(live, entity), key, None), key
                ),
                one=True,
            )
            return replace(answer, met=met)
        live, row = await reader.read(
            lambda live: point_statement(point_query(_own(live, entity), key, None))
        )
        return row_of(_own(live, entity), key, row)
    except RowNotFound:
        raise missing from None


async def undeployed(reader: Reader) -> list[str]:
    """Names of registered views that do not serve yet. Raises ReadError."""
    live, row = await reader.read(lambda live: _names_statement(_own(live, REGISTERED)))
    return [name for name in row[-1] if name not in live.views]


def _names_statement(version: Version) -> Statement:
    names = sql.SQL("(SELECT coalesce(array_agg(name ORDER BY name), '{{}}') FROM {})").format(table(version))
    return Statement(headed(names.as_string()).encode(), head_values((), (MESH_TOPIC,)))


def _own(live: Live, entity: str) -> Version:
    try:
        return live.own[entity]
    except KeyError:
        raise NotDeployed(remedy="Run mesh deploy.") from None


def own_feed(live: Live, entity: str) -> Feed:
    """What an entity of the mesh's own is made of."""
    return Feed(entity, (MESH_TOPIC,), (_own(live, entity).id,))
