"""Physical tables of entity and view versions, made from their declarations.

Names come from checked declarations (lower-case letters, digits, underscores), so they are quoted and put
into SQL as they are; values never are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from mesh_core.model.entity import EntityModel
from mesh_core.model.types import ColumnType
from mesh_core.model.view_model import ViewModel
from mesh_core.store.schemas import DATA, READ

ENTRY, WORKFLOW = "mesh.workflow_entry", "mesh.workflow"


def relation_name(stem: str, number: int) -> str:
    """The physical table of version `number`."""
    return f"{stem}__{number}"


def quote(name: str) -> str:
    """A checked name as an SQL identifier."""
    return f'"{name}"'


def physical(relation: str) -> str:
    """The SQL name of a version's table."""
    return f'{DATA}."{relation}"'


def queue_name(relation: str) -> str:
    """The table of roots that were touched while a view's table was being filled."""
    return f"queue_{relation}"


def bulk_name(relation: str) -> str:
    """The table of windows of an entity's table that is filled in bulk."""
    return f"bulk_{relation}"


def ruled_name(relation: str) -> str:
    """The SQL view of a version's rows that row-level security lets through."""
    return f"ruled_{relation}"


def literal(value: object) -> str:
    """A declared constant as SQL."""
    return sql.Literal(value).as_string(None)


def column_sql(kind: ColumnType) -> str:
    """A column's type; text orders by bytes (COLLATE "C"), the same on every machine."""
    return f'{kind.sql} COLLATE "C"' if kind.kind == "text" else kind.sql


def create_entity_table(
    connection: psycopg.Connection, model: EntityModel, relation: str, *, keyed: bool = True
) -> None:
    """The empty table of an entity version, with its key or without. `_partition` is whoever writes the row."""
    lines = []
    for column in model.columns:
        default = "" if column.default is None else f" DEFAULT {literal(column.default)}"
        null = "" if column.type.nullable else " NOT NULL"
        lines.append(f"{quote(column.name)} {column_sql(column.type)}{default}{null}")
    lines.append("_partition integer NOT NULL")
    if keyed:
        lines.append(f"PRIMARY KEY ({columns_sql(model.key)})")
    connection.execute(f"CREATE TABLE {physical(relation)} ({', '.join(lines)}) WITH (fillfactor = 85)")
    connection.execute("SELECT mesh.secure(%s)", (relation,))
    if model.name == ENTRY:
        connection.execute(f"CREATE INDEX ON {physical(relation)} (service, entity, key)")


def create_view_table(connection: psycopg.Connection, model: ViewModel, relation: str) -> None:
    """The empty table of a view version, without its key, and the queue for what is touched while it is filled."""
    lines = [
        f"{quote(column.name)} {column_sql(column.type)}{'' if column.type.nullable else ' NOT NULL'}"
        for column in model.columns
    ]
    connection.execute(f"CREATE TABLE {physical(relation)} ({', '.join(lines)}) WITH (fillfactor = 85)")
    connection.execute("SELECT mesh.secure(%s)", (relation,))
    key = columns_sql(model.key)
    queue = physical(queue_name(relation))
    connection.execute(f"CREATE TABLE {queue} AS SELECT {key} FROM {physical(relation)}")
    connection.execute(f"ALTER TABLE {queue} ADD PRIMARY KEY ({key})")


def add_key(connection: psycopg.Connection, model: ViewModel, relation: str) -> None:
    """Index a filled view table by its key and as it is declared, and gather its statistics."""
    connection.execute(f"ALTER TABLE {physical(relation)} ADD PRIMARY KEY ({columns_sql(model.key)})")
    for index in model.indexes:
        # The key comes last, as in the order of a page.
        columns = [*index, *(name for name in model.key if name not in index)]
        connection.execute(f"CREATE INDEX ON {physical(relation)} ({columns_sql(columns)})")
    connection.execute(f"ANALYZE {physical(relation)}")


def create_read_view(connection: psycopg.Connection, relation: str, columns: Iterable[str]) -> None:
    """The SQL view of one version in schema `read`, and that of only the rows somebody may see, if not there yet."""
    connection.execute(
        f"CREATE OR REPLACE VIEW {READ}.{quote(relation)} AS SELECT {columns_sql(columns)} FROM {physical(relation)}"
    )
    connection.execute("SELECT mesh.publish(%s)", (relation,))


def swap_stable_name(
    connection: psycopg.Connection, stem: str, relation: str, columns: Sequence[str]
) -> None:
    """Point `read.<stem>` at a version.

    Replaced in place where columns stay and new ones come last, so grants and views of others survive. Otherwise
    dropped and made anew with the same grants on the whole; raises DependentObjectsStillExist if others read it.
    """
    name = f"{READ}.{quote(stem)}"
    query = f"AS SELECT {columns_sql(columns)} FROM {physical(relation)}"
    try:
        with connection.transaction():
            connection.execute(f"CREATE OR REPLACE VIEW {name} {query}")
        return
    except psycopg.errors.InvalidTableDefinition:
        grants = _grants(connection, name)
    connection.execute(f"DROP VIEW {name}")
    connection.execute(f"CREATE VIEW {name} {query}")
    for privilege, role, grantable in grants:
        option = " WITH GRANT OPTION" if grantable else ""
        connection.execute(f"GRANT {privilege} ON {name} TO {role}{option}")


def _grants(connection: psycopg.Connection, name: str) -> list[tuple[str, str, bool]]:
    """(privilege, role as SQL, may be passed on) of a view, its owner's aside."""
    return connection.execute(
        "SELECT privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, is_grantable "
        "FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = %s::regclass AND grantee <> relowner",
        (name,),
    ).fetchall()


def analyze_once(cursor: psycopg.Cursor[Any], relation: str) -> None:
    """Gather statistics of a filled table that has none: without them, joining rows that just came could take minutes."""
    table = physical(relation)
    row = cursor.execute(
        f"SELECT reltuples < 0 AND EXISTS (SELECT FROM {table}) FROM pg_class WHERE oid = %s::regclass",
        (table,),
    ).fetchone()
    if row and row[0]:
        cursor.execute(f"ANALYZE {table}")


def drop_version(connection: psycopg.Connection, relation: str) -> None:
    """Drop a version's table and its SQL views. Raises psycopg errors when others depend on them."""
    for name in (relation, ruled_name(relation)):
        connection.execute(f"DROP VIEW IF EXISTS {READ}.{quote(name)}")
    for name in (relation, queue_name(relation), bulk_name(relation)):
        connection.execute(f"DROP TABLE IF EXISTS {physical(name)}")


def columns_sql(names: Iterable[str], prefix: str = "") -> str:
    """Quoted names, separated by commas, each of the alias `prefix` if one is given."""
    dot = f"{prefix}." if prefix else ""
    return ", ".join(f"{dot}{quote(name)}" for name in names)


def key_text_sql(model: EntityModel, alias: str = "") -> str:
    """The canonical key text of a row, as `mesh_core.model.identifiers.key_text` spells it."""
    dot = f"{alias}." if alias else ""
    return key_text_of([f"{dot}{quote(name)}" for name in model.key])


def key_text_of(parts: Sequence[str]) -> str:
    """The canonical key text of SQL values."""
    if len(parts) == 1:
        return f"{parts[0]}::text"
    return " || ',' || ".join(f"mesh.key_part({part}::text)" for part in parts)


def needed_indexes(view: ViewModel, entities: Mapping[str, EntityModel]) -> Iterator[tuple[str, str]]:
    """(entity, index definition) for every edge that is walked against its key: `[USING …] (…)`."""
    for edge in {edge for path in view.paths for edge in path}:
        if edge.kind == "workflow":
            for name in (edge.source, edge.target):
                model = entities[name]
                if name != WORKFLOW and (
                    len(model.key) > 1 or model.column(model.key[0]).type.kind != "text"
                ):
                    # It meets the text of entries, and an index of another collation would not be used.
                    yield name, f'(({key_text_sql(model)}) COLLATE "C")'
            continue
        name, columns = (
            (edge.source, edge.source_columns) if edge.kind == "one" else (edge.target, edge.target_columns)
        )
        model = entities[name]
        if model.key[: len(columns)] != columns:
            # Equality is all that edges need, and a hash index has no limit on the length of text.
            text_only = len(columns) == 1 and model.column(columns[0]).type.kind == "text"
            yield name, f"{'USING hash ' if text_only else ''}({columns_sql(columns)})"


def create_indexes(
    connection: psycopg.Connection,
    view: ViewModel,
    entities: Mapping[str, EntityModel],
    relations: Mapping[str, str],
) -> None:
    """Create the indexes that `view` needs on the tables of the entity versions that it reads, once each.

    Writers go on meanwhile, so the connection must not be in a transaction.
    """
    for name, definition in sorted(set(needed_indexes(view, entities))):
        relation = relations[name]
        # Named by what it is, so that the next view that needs it finds it.
        index = f"{relation[:40]}_{zlib.crc32(definition.encode()):08x}"
        drop_invalid(connection, index)
        connection.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quote(index)} ON {physical(relation)} {definition}"
        )


def drop_invalid(connection: psycopg.Connection, index: str) -> None:
    """Drop an index whose creation was interrupted."""
    found = connection.execute(
        "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid",
        (physical(index),),
    ).fetchone()
    if found is not None:
        connection.execute(f"DROP INDEX CONCURRENTLY {physical(index)}")
