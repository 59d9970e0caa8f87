"""The lookup between workflows and the entries of all services that belong to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from psycopg import sql

from mesh_core.model.entity import EntityModel
from mesh_core.model.identifiers import MAX_KEY_BYTES, name_problem
from mesh_core.model.types import SQL_TYPES, ColumnKind
from mesh_core.read.compiler import GENERATION, POSITION, Statement, names, page_statement, page_text, table
from mesh_core.read.database import Connection, Database
from mesh_core.read.errors import InvalidParameter, NotDeployed, RequestError, WorkflowNotFound
from mesh_core.read.grammar import point_query
from mesh_core.read.rows import Answer, Page, page_of
from mesh_core.read.timeline import checked, cursor_values
from mesh_core.read.versions import Live, Version

MAX_ENTRIES = 1000
"""Most entries of a workflow that one answer gives; `truncated` says that there are more."""

_WORKFLOW = sql.SQL("""
SELECT {generation}, {position},
    (SELECT row_to_json(w)::text
     FROM (SELECT workflow_id, name, attributes, created_at, created_by FROM {workflows}
           WHERE workflow_id = %s::uuid) AS w),
    (SELECT coalesce(json_agg(e), '[]')::text
     FROM (SELECT service, entity, key, min(registered_at) AS registered_at,
                  json_agg(origin ORDER BY origin) AS origins
           FROM {entries} WHERE workflow_id = %s::uuid
           GROUP BY service, entity, key ORDER BY service, entity, key LIMIT %s) AS e)""")
_WORKFLOWS_OF = sql.SQL("""
SELECT * FROM (
    SELECT e.workflow_id, w.name, w.created_at, min(e.registered_at) AS registered_at
    FROM {entries} AS e LEFT JOIN {workflows} AS w USING (workflow_id)
    WHERE e.service = %s::text AND e.entity = %s::text AND e.key = %s::text
    GROUP BY e.workflow_id, w.name, w.created_at) AS found""")
_ROWS = sql.SQL("""
SELECT wanted.number, (SELECT row_to_json(__row)::text FROM (SELECT {columns}) AS __row)
FROM unnest({keys}) WITH ORDINALITY AS wanted({aliases}, number) JOIN {table} AS found ON {equal}""")
_BY_WORKFLOW: Mapping[str, ColumnKind] = {"workflow_id": "uuid"}


async def workflow(database: Database, workflow_id: str, *, expand: bool = False) -> Answer:
    """A workflow with its entries in all services. Raises WorkflowNotFound or another ReadError.

    With `expand`, an entry has its entity's `row` and, by name, the rows of the `views` rooted in it.
    """
    identifier = checked("workflow_id", "uuid", workflow_id)
    if not expand:
        _, row = await database.read(lambda live: _workflow_statement(live, identifier))
        return Answer(_document(identifier, row[2], json.loads(row[3])), row[1])
    async with database.snapshot() as (live, connection):
        statement = _workflow_statement(live, identifier)
        cursor = await connection.execute(statement.text, statement.parameters)
        _, position, found, entries = (await cursor.fetchall())[0]
        entries = json.loads(entries)
        await _add_rows(live, connection, entries)
        return Answer(_document(identifier, found, entries), position)


async def workflows_of(
    database: Database, service: str, entity: str, key: str, *, limit: int, cursor: str | None = None
) -> Page:
    """The workflows that an entry belongs to, in the order of their UUIDs. Raises ReadError."""
    values = [
        checked(name, "text", text) for name, text in (("service", service), ("entity", entity), ("key", key))
    ]
    after = cursor_values(cursor, _BY_WORKFLOW) if cursor is not None else None

    def build(live: Live) -> Statement:
        workflows, entries = _built_in(live)
        source = _WORKFLOWS_OF.format(entries=table(entries), workflows=table(workflows))
        text = page_text(source, (), _BY_WORKFLOW, after is not None)
        return page_statement(text, live.topics, values, after, limit)

    _, row = await database.read(build)
    return page_of(0, row)


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
    try:
        return live.entities["mesh.workflow"], live.entities["mesh.workflow_entry"]
    except KeyError:
        raise NotDeployed(remedy="Run mesh deploy.") from None


def _workflow_statement(live: Live, identifier: str) -> Statement:
    workflows, entries = _built_in(live)
    text = _WORKFLOW.format(
        generation=GENERATION, position=POSITION, workflows=table(workflows), entries=table(entries)
    )
    return Statement(text.as_bytes(), (list(live.topics), identifier, identifier, MAX_ENTRIES + 1))


def _document(identifier: str, found: str | None, entries: list[dict[str, Any]]) -> str:
    if found is None and not entries:
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
        entity = live.entities.get(name)
        # An entity whose record key is a parent's has no one row for an entry.
        if (
            entity is None
            or not isinstance(entity.model, EntityModel)
            or entity.model.record_key != entity.key
        ):
            continue
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
        table=table(version),
        equal=sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("found", name), sql.Identifier("wanted", alias))
            for name, alias in zip(version.key, aliases, strict=True)
        ),
    )
    keys = [list(column) for column in zip(*(key for _, key in wanted), strict=True)]
    cursor = await connection.execute(text, keys)
    return [(wanted[number - 1][0], msgspec.Raw(row.encode())) for number, row in await cursor.fetchall()]


_ARRAYS = {kind: sql.SQL("%s::") + sql.SQL(name) + sql.SQL("[]") for kind, name in SQL_TYPES.items()}
