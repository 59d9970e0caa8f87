"""The lookup between workflows and the entries of all services that belong to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from psycopg import sql

from mesh_core.model.grants import WORKFLOWS
from mesh_core.model.identifiers import MAX_KEY_BYTES, name_problem
from mesh_core.model.types import SQL_TYPES, ColumnKind
from mesh_core.read.access import entries_seen
from mesh_core.read.compiler import Statement, head_values, headed, names
from mesh_core.read.connections import Connection
from mesh_core.read.database import Reader
from mesh_core.read.errors import InvalidParameter, NotDeployed, RequestError, WorkflowNotFound
from mesh_core.read.grammar import Paging, checked, fixed_query, point_query
from mesh_core.read.queries import ListQuery, Source
from mesh_core.read.rows import Answer, Page, read_page
from mesh_core.read.versions import Live, Version
from mesh_core.read.waiting import NOTHING, Demand, meeting

MAX_ENTRIES = 1000
"""Most entries of a workflow that one answer gives; `truncated` says that there are more."""

_WORKFLOW = sql.SQL("""
    (SELECT row_to_json(w)::text
     FROM (SELECT workflow_id, name, attributes, created_at, created_by FROM {workflows}
           WHERE workflow_id = %s::uuid) AS w),
    (SELECT coalesce(json_agg(e), '[]')::text
     FROM (SELECT service, entity, key, min(registered_at) AS registered_at,
                  json_agg(origin ORDER BY origin) AS origins
           FROM {entries} AS e WHERE workflow_id = %s::uuid AND {seen}
           GROUP BY service, entity, key ORDER BY service, entity, key LIMIT %s) AS e),
    EXISTS (SELECT FROM {entries} WHERE workflow_id = %s::uuid)""")
_WORKFLOWS_OF = sql.SQL("""(
    SELECT e.workflow_id, w.name, w.created_at, min(e.registered_at) AS registered_at
    FROM {entries} AS e LEFT JOIN {workflows} AS w USING (workflow_id)
    WHERE e.service = %s::text AND e.entity = %s::text AND e.key = %s::text AND {seen}
    GROUP BY e.workflow_id, w.name, w.created_at) AS f""")
_ROWS = sql.SQL("""
SELECT wanted.number, (SELECT row_to_json(__row)::text FROM (SELECT {columns}) AS __row)
FROM unnest({keys}) WITH ORDINALITY AS wanted({aliases}, number) JOIN {table} AS found ON {equal}""")
_COLUMNS: Mapping[str, ColumnKind] = {
    "workflow_id": "uuid",
    "name": "text",
    "created_at": "timestamptz",
    "registered_at": "timestamptz",
}


async def workflow(
    reader: Reader, workflow_id: str, *, expand: bool = False, demand: Demand = NOTHING
) -> Answer:
    """A workflow with its entries in all services, that meets the demand. Raises WorkflowNotFound or another ReadError.

    With `expand`, an entry has its entity's `row` and, by name, the rows of the `views` rooted in it.
    """
    identifier = checked("workflow_id", "uuid", workflow_id)
    if demand:
        answer, met = await meeting(
            reader,
            demand,
            lambda live: live.feed_of_all if expand else live.feed,
            lambda live, connection: _workflow_within(live, connection, identifier, expand),
            one=True,
        )
        return replace(answer, met=met)
    if not expand:
        _, row = await reader.read(lambda live: _workflow_statement(live, identifier))
        _, position, age, found, entries, has_any = row
        return Answer(_document(identifier, found, json.loads(entries), has_any), position, age)
    async with reader.snapshot() as (live, connection):
        return await _workflow_within(live, connection, identifier, expand)


async def workflows_of(
    reader: Reader,
    service: str,
    entity: str,
    key: str,
    paging: Paging,
    *,
    limit: str | None = None,
    cursor: str | None = None,
    demand: Demand = NOTHING,
) -> Page:
    """The workflows that an entry belongs to, in the order of their UUIDs. Raises ReadError."""
    values = tuple(
        checked(name, "text", text) for name, text in (("service", service), ("entity", entity), ("key", key))
    )

    def query(live: Live) -> ListQuery:
        workflows, entries = _built_in(live)
        seen, bound = entries_seen(live, "e")
        found = _WORKFLOWS_OF.format(
            entries=sql.SQL(entries.rows), workflows=sql.SQL(workflows.rows), seen=sql.SQL(seen)
        ).as_string()
        source = Source("workflows", found, live.topics, values=(*values, *bound))
        return fixed_query(source, _COLUMNS, ("workflow_id",), paging, limit, cursor)

    return await read_page(reader, query, lambda live: live.feed, paging, demand)


def checked_entry(service: str, entity: str, key: str) -> None:
    """Whether an entry of these can be registered. Raises InvalidParameter naming the one that cannot."""
    for name, text in (("service", service), ("entity", entity)):
        if problem := name_problem(text):
            raise InvalidParameter(f"The {name} cannot be used: {problem}.", remedy=f"Correct the {name}.")
    checked("key", "text", key)
    if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
        raise InvalidParameter(
            f"The key has {len(key.encode())} bytes, not 1 to {MAX_KEY_BYTES}.", remedy="Use a shorter key."
        )


def _built_in(live: Live) -> tuple[Version, Version]:
    live.require(WORKFLOWS)
    try:
        return live.own["mesh.workflow"], live.own["mesh.workflow_entry"]
    except KeyError:
        raise NotDeployed(remedy="Run mesh deploy.") from None


async def _workflow_within(live: Live, connection: Connection, identifier: str, expand: bool) -> Answer:
    statement = _workflow_statement(live, identifier, live.feed_of_all.views if expand else ())
    cursor = await connection.execute(statement.text, statement.parameters)
    _, position, age, found, entries, has_any = (await cursor.fetchall())[0]
    entries = json.loads(entries)
    if expand:
        await _add_rows(live, connection, entries)
    return Answer(_document(identifier, found, entries, has_any), position, age)


def _workflow_statement(live: Live, identifier: str, views: tuple[int, ...] = ()) -> Statement:
    workflows, entries = _built_in(live)
    seen, bound = entries_seen(live, "e")
    text = headed(
        _WORKFLOW.format(
            workflows=sql.SQL(workflows.rows), entries=sql.SQL(entries.rows), seen=sql.SQL(seen)
        ).as_string()
    )
    head = head_values(views, live.topics)
    return Statement(text.encode(), (identifier, identifier, *bound, MAX_ENTRIES + 1, identifier, *head))


def _document(identifier: str, found: str | None, entries: list[dict[str, Any]], has_any: bool) -> str:
    # One whose entries are all of what the subject may not see is none to it.
    if not entries and (found is None or has_any):
        raise WorkflowNotFound(
            f"There is no workflow {identifier}.",
            remedy="Check the UUID; one just created is there once Mesh-Position has reached its event.",
        )
    unknown = {
        "workflow_id": identifier,
        "name": None,
        "attributes": None,
        "created_at": None,
        "created_by": None,
    }
    head = msgspec.json.decode(found, type=dict[str, msgspec.Raw]) if found else unknown
    document = head | {"entries": entries[:MAX_ENTRIES], "truncated": len(entries) > MAX_ENTRIES}
    return msgspec.json.encode(document).decode()


async def _add_rows(live: Live, connection: Connection, entries: Sequence[dict[str, Any]]) -> None:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for entry in entries[:MAX_ENTRIES]:
        entry |= {"row": None, "views": {}}
        grouped.setdefault(f"{entry['service']}.{entry['entity']}", []).append(entry)
    for name, members in grouped.items():
        model, entity = live.declared.get(name), live.entities.get(name)
        # An entity whose record key is a parent's has no one row for an entry.
        if model is None or model.record_key != model.key:
            continue
        if entity is not None:
            for member, row in await _rows(connection, entity, members):
                member["row"] = row
        for view in live.rooted.get(name, ()):
            for member, row in await _rows(connection, view, members):
                member["views"][view.name] = row


async def _rows(
    connection: Connection, version: Version, entries: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], msgspec.Raw]]:
    """The rows of a version for those of the entries that have one."""
    wanted = []
    for entry in entries:
        try:
            wanted.append((entry, point_query(version, entry["key"]).key))
        except RequestError:
            continue  # registered by hand under a key that no row of this entity can have
    if not wanted:
        return []
    aliases = [f"key_{number}" for number in range(len(version.key))]
    text = _ROWS.format(
        columns=sql.SQL(", ").join(sql.Identifier("found", name) for name in version.columns),
        keys=sql.SQL(", ").join(_ARRAYS[version.columns[name].kind] for name in version.key),
        aliases=names(aliases),
        table=sql.SQL(version.rows),
        equal=sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("found", name), sql.Identifier("wanted", alias))
            for name, alias in zip(version.key, aliases, strict=True)
        ),
    )
    keys = [list(column) for column in zip(*(key for _, key in wanted), strict=True)]
    cursor = await connection.execute(text, [*keys, *version.values])
    return [(wanted[number - 1][0], msgspec.Raw(row.encode())) for number, row in await cursor.fetchall()]


_ARRAYS = {kind: sql.SQL("%s::") + sql.SQL(name) + sql.SQL("[]") for kind, name in SQL_TYPES.items()}
