"""From a checked query to SQL: one statement, whose one row begins with its generation and its position.

Postgres makes the JSON of rows: exact (numerics and bigints keep every digit, times are RFC 3339 in UTC, as
the session's time zone is), and several times cheaper than values that Python would have to touch. Names come
from declarations and are quoted; what a client sent is always bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from psycopg import sql

from mesh_core.model.types import ColumnKind
from mesh_core.read.queries import ListQuery, PointQuery
from mesh_core.read.versions import Version
from mesh_core.store.schemas import DATA


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with the values bound to it, in order."""

    text: bytes
    parameters: tuple[object, ...]


GENERATION = sql.SQL("(SELECT value FROM mesh.generation WHERE id = 1)")
POSITION = sql.SQL("""(
    SELECT '{' || coalesce(string_agg(to_json(topic)::text || ':{' || offsets || '}', ','
                                      ORDER BY topic COLLATE "C"), '') || '}'
    FROM (SELECT topic, string_agg('"' || partition || '":' || next_offset, ',' ORDER BY partition) AS offsets
          FROM mesh.checkpoints WHERE build = 0 AND topic = ANY(%s::text[]) GROUP BY topic) AS topics)""")
"""The live checkpoints of the topics that are bound to it, as the text of a `Mesh-Position` header."""

_ROW = sql.Identifier("__row")  # no column can have this name
_POINT = sql.SQL(
    "SELECT {generation}, {position}, "
    "(SELECT row_to_json({row})::text FROM (SELECT {columns} FROM {table} WHERE {where}) AS {row})"
)
_PAGE = sql.SQL("""
SELECT {generation}, {position}, page.* FROM (
    SELECT '[' || coalesce(string_agg(body, ',' ORDER BY number) FILTER (WHERE number <= %s), '') || ']',
           max(last) FILTER (WHERE number = %s), count(*) > %s
    FROM (SELECT row_to_json({row})::text AS body, json_build_array({key})::text AS last,
                 row_number() OVER (ORDER BY {key}) AS number
          FROM ({source} ORDER BY {key} LIMIT %s) AS {row}) AS numbered
    ) AS page""")


def point_statement(query: PointQuery) -> Statement:
    """Its row: generation, position, the row as JSON text or null."""
    return Statement(_point_text(query.version), (list(query.version.topics), *query.key))


def list_statement(query: ListQuery) -> Statement:
    """Its row is that of a `page_text`."""
    text = _list_text(query.version, tuple(entry.column for entry in query.filters), query.after is not None)
    values = [entry.value for entry in query.filters]
    return page_statement(text, query.version.topics, values, query.after, query.limit)


def page_statement(
    text: bytes, topics: Iterable[str], values: Sequence[str], after: Sequence[str] | None, limit: int
) -> Statement:
    """A `page_text` with the values of its conditions, and of the row that it starts `after`."""
    return Statement(text, (list(topics), limit, limit, limit, *values, *(after or ()), limit + 1))


def page_text(
    source: sql.Composed,
    conditions: Sequence[sql.Composable],
    order: Mapping[str, ColumnKind],
    starts_after: bool,
) -> bytes:
    """A page of a SELECT without WHERE and ORDER BY, whose rows are unique in the columns of `order`.

    Its row: generation, position of the topics, the rows as a JSON array, the `order` of the last one as a
    JSON array, whether there are more. One row more than the page is looked for, to know that.
    """
    wanted = [*conditions]
    if starts_after:
        bounds = sql.SQL(", ").join(bound(kind) for kind in order.values())
        wanted.append(sql.SQL("({}) > ({})").format(names(order), bounds))
    if wanted:
        source = source + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(wanted)
    return _PAGE.format(
        generation=GENERATION, position=POSITION, row=_ROW, key=names(order), source=source
    ).as_bytes()


@lru_cache(maxsize=1000)
def _list_text(version: Version, filtered: tuple[str, ...], starts_after: bool) -> bytes:
    source = sql.SQL("SELECT {} FROM {}").format(names(version.columns), table(version))
    conditions = [_equals(version, column) for column in filtered]
    return page_text(
        source, conditions, {name: version.columns[name].kind for name in version.key}, starts_after
    )


def table(version: Version) -> sql.Identifier:
    """The version's physical table."""
    return sql.Identifier(DATA, version.relation)


@lru_cache(maxsize=1000)
def _point_text(version: Version) -> bytes:
    return _POINT.format(
        generation=GENERATION,
        position=POSITION,
        row=_ROW,
        columns=names(version.columns),
        table=table(version),
        where=sql.SQL(" AND ").join(_equals(version, name) for name in version.key),
    ).as_bytes()


def _equals(version: Version, column: str) -> sql.Composed:
    return sql.SQL("{} = {}").format(sql.Identifier(column), bound(version.columns[column].kind))


def bound(kind: ColumnKind) -> sql.SQL:
    """A placeholder of the column's type, so that one prepared statement serves whatever value comes."""
    return _BOUND[kind]


def names(columns: Iterable[str]) -> sql.Composed:
    """Quoted, comma-separated."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


_BOUND: Mapping[ColumnKind, sql.SQL] = {
    "int": sql.SQL("%s::bigint"),
    "text": sql.SQL("%s::text"),
    "numeric": sql.SQL("%s::numeric"),
    "float": sql.SQL("%s::double precision"),
    "bool": sql.SQL("%s::boolean"),
    "timestamptz": sql.SQL("%s::timestamptz"),
    "date": sql.SQL("%s::date"),
    "uuid": sql.SQL("%s::uuid"),
}
