"""From a checked query to SQL: one statement, whose one row begins with its generation and its position.

Postgres makes the JSON of rows: exact (numerics and bigints keep every digit, times are RFC 3339 in UTC, as
the session's time zone is), and several times cheaper than values that Python would have to touch. Names come
from declarations and are quoted, as are those that a client gives to columns, which are letters, digits and underscores;
its values are always bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from psycopg import sql

from mesh_core.model.types import SQL_TYPES
from mesh_core.read.conditions import Condition
from mesh_core.read.queries import ListQuery, Output, PointQuery, Source
from mesh_core.read.versions import Version
from mesh_core.read.writing import Way, Writer, ways_beyond
from mesh_core.store.schemas import READ
from mesh_core.store.tables import quote

ENOUGH = 10_000
"""Rows up to which an estimated count is exact."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with the values bound to it, in order."""

    text: bytes
    parameters: tuple[object, ...]
    form: Form | None = None
    """What it has in common with others, if they may be asked together."""


@dataclass(frozen=True, slots=True, eq=False)  # by identity: it is looked up by every read
class Form:
    """Statements of one row that differ in the values at places `first` to `last` alone; `several` asks all of them at once."""

    several: bytes
    first: int
    last: int

    @classmethod
    def of(cls, text: bytes, parameters: tuple[object, ...], first: int, last: int) -> Form | None:
        """The form of a statement, whose placeholders there have a cast from text.

        None where it has lists besides, as places in JSON are: what is shared is looked up.
        """
        if not all(isinstance(each, str) for each in (*parameters[:first], *parameters[last:])):
            return None
        parts = text.split(b"%s")
        names = [b'"$asked".v%d' % number for number in range(last - first)]
        written = parts[0]
        for number, part in enumerate(parts[1:]):
            written += (names[number - first] if first <= number < last else b"%s") + part
        arrays = b", ".join(b"%s::text[]" for _ in names)
        columns = b", ".join(b"v%d" % number for number in range(len(names)))
        several = (
            b'SELECT p.* FROM unnest(%s) WITH ORDINALITY AS "$asked"(%s, number), LATERAL (%s) AS p '
            b'ORDER BY "$asked".number' % (arrays, columns, written)
        )
        return cls(several, first, last)

    def shared(self, parameters: tuple[object, ...]) -> tuple[object, ...]:
        """What statements must have in common to be asked together."""
        return (*parameters[: self.first], *parameters[self.last :])

    def together(self, statements: Sequence[Statement]) -> Statement:
        """Its rows are those of the statements, in their order."""
        asked = zip(*(each.parameters[self.first : self.last] for each in statements), strict=True)
        return Statement(self.several, (*map(list, asked), *self.shared(statements[0].parameters)))


HEAD = """(
    SELECT (SELECT value FROM mesh.generation WHERE id = 1) AS generation,
           '{' || coalesce(string_agg(to_json(topic)::text || ':{' || offsets || '}', ','
                                      ORDER BY topic COLLATE "C"), '') || '}' AS position,
           CASE WHEN bool_and(known) THEN round(extract(epoch FROM clock_timestamp() - least(
               min(current_at), (SELECT min(noted_at) FROM mesh.fan_out WHERE version_id = ANY(%s::int[])))), 3)
           END::float8 AS age
    FROM (SELECT topic, string_agg('"' || partition || '":' || next_offset, ',' ORDER BY partition) AS offsets,
                 min(current_at) AS current_at, bool_and(current_at IS NOT NULL) AS known
          FROM mesh.checkpoints WHERE build = 0 AND topic = ANY(%s::text[]) GROUP BY topic) AS topics
) AS head"""
"""Of the snapshot: the generation, where the live checkpoints of topics are, as the text of a `Mesh-Position` header,
and for how many seconds rows may have been behind: null where that is not known. To it are bound the ids of view
versions, whose rows may still have to follow, and the topics."""
ROW = '"$row"'
"""A name that no column has, for a row of all of them."""
_HEAD = "head.generation, head.position, head.age"


def headed(select: str, *more: str) -> str:
    """A statement whose row begins with generation, position and age, and goes on with `select`."""
    return f"SELECT {_HEAD}, {select} FROM {', '.join((HEAD, *more))}"


def head_statement(versions: tuple[int, ...], topics: tuple[str, ...]) -> Statement:
    """Its row: generation, position, age."""
    return Statement(f"SELECT {_HEAD} FROM {HEAD}".encode(), head_values(versions, topics))


@lru_cache(maxsize=1000)
def head_values(versions: tuple[int, ...], topics: tuple[str, ...]) -> tuple[str, str]:
    """What is bound to HEAD, as Postgres spells arrays: psycopg takes a tenth of a small read to spell them each time."""
    return "{" + ",".join(map(str, versions)) + "}", "{" + ",".join(f'"{topic}"' for topic in topics) + "}"


def point_statement(query: PointQuery) -> Statement:
    """Its row: generation, position, age, the row as JSON text or null."""
    text, values, form = _point_text(query.version, query.outputs)
    head = head_values((query.version.id,), query.version.topics)
    return Statement(text, (*values, *query.key, *head), form)


@lru_cache(maxsize=1000)
def _point_text(
    version: Version, outputs: tuple[Output, ...]
) -> tuple[bytes, tuple[object, ...], Form | None]:
    writer = Writer()
    columns = ", ".join(f'{writer.reference(each.reference)} AS "{each.name}"' for each in outputs)
    key = " AND ".join(f'"{name}" = %s::{SQL_TYPES[version.columns[name].kind]}' for name in version.key)
    writer.values += version.values
    row = f"SELECT {columns} FROM {version.rows} WHERE {key}"
    text = headed(f"(SELECT row_to_json({ROW})::text FROM ({row}) AS {ROW})").encode()
    values = tuple(writer.values)
    return text, values, Form.of(text, values, len(values), len(values) + len(version.key))


def list_statement(query: ListQuery) -> Statement:
    """Its row: generation, position, age, the page as a JSON array, how many rows were found, places, how many there are in all.

    One row more than the page is looked for, to know whether there are more. The places are those of the first row of
    the page and of the last, going from the query's place on, as JSON arrays of texts. The count of all is null where
    none is asked for, where it is only planned (see `plan_statement`), and where it is estimated and past ENOUGH.
    """
    writer = Writer()
    writer.values += head_values(query.source.versions, query.source.topics)
    row, places, source = _named(query, _found(writer, query, query.limit + 1))
    rows = f"(array_agg({row}::text))[1:{query.limit}]"
    if query.place is not None and query.place.backwards:
        rows = f"array_reverse({rows})"
    nearest, farthest = (
        f"json_build_array({', '.join(f'(array_agg({place}))[{number}]' for place in places)})::text"
        for number in (1, query.limit)
    )
    page = (
        f"SELECT '[' || coalesce(array_to_string({rows}, ','), '') || ']', count(*), {nearest}, {farthest} "
        f"FROM {source}"
    )
    if query.count in ("exact", "estimated"):
        text = headed(
            "page.*, counted.number", f"({page}) AS page", f"({_counted(writer, query)}) AS counted"
        )
    else:
        text = headed("page.*, NULL", f"({page}) AS page")
    return Statement(text.encode(), tuple(writer.values))


def rows_statement(query: ListQuery, *, as_json: bool) -> Statement:
    """Its rows are those of the query: each as JSON text, or a text for each output."""
    writer = Writer()
    found = _found(writer, query, query.limit)
    if as_json:
        row, _, source = _named(query, found)
        return Statement(f"SELECT {row}::text FROM {source}".encode(), tuple(writer.values))
    # A time as JSON has it, without quotes; everything else is spelled alike.
    spelled = [
        f"to_json(i.c{n}) #>> '{{}}'" if each.reference.kind == "timestamptz" else f"i.c{n}::text"
        for n, each in enumerate(query.outputs)
    ]
    return Statement(f"SELECT {', '.join(spelled)} FROM ({found}) AS i".encode(), tuple(writer.values))


def _named(query: ListQuery, found: str) -> tuple[str, list[str], str]:
    """The JSON of a row that `_found` has, the texts of its place, and what both are to be selected from."""
    columns = ", ".join(f"i.c{n} AS {quote(each.name)}" for n, each in enumerate(query.outputs))
    names = {each.reference: each.name for each in query.outputs}
    if all(part.reference in names for part in query.order):
        # Without a SELECT for each row a page takes a third less.
        places = [f"{ROW}.{quote(names[part.reference])}::text" for part in query.order]
        return f"row_to_json({ROW})", places, f"(SELECT {columns} FROM ({found}) AS i) AS {ROW}"
    places = [f"i.o{n}::text" for n in range(len(query.order))]
    return f"row_to_json((SELECT {ROW} FROM (SELECT {columns}) AS {ROW}))", places, f"({found}) AS i"


def _found(writer: Writer, query: ListQuery, limit: int) -> str:
    """A SELECT of outputs as c0…, of what they are ordered by as o0…, from the query's place on."""
    place = query.place
    backwards = place is not None and place.backwards
    order = Writer.order(query.order, [f"o{n}" for n in range(len(query.order))], backwards=backwards)
    # The limit is part of the text: Postgres plans a few rows otherwise than any number of them.
    end = f" ORDER BY {order} LIMIT {limit}"

    def rows(way: Way | None) -> str:
        columns = [f"{writer.reference(each.reference)} AS c{n}" for n, each in enumerate(query.outputs)]
        columns += [f"{writer.reference(part.reference)} AS o{n}" for n, part in enumerate(query.order)]
        source = _rows(writer, query.source, query.conditions)
        if way is not None and place is not None:
            source += f"{' AND ' if query.conditions else ' WHERE '}{writer.beyond(query.order, place, way)}"
        return f"SELECT {', '.join(columns)} FROM {source}{end}"

    ways = ways_beyond(query.order, place, query.source.is_nullable) if place else [None]
    found = [rows(way) for way in ways]
    if len(found) == 1:
        return found[0]
    return f"SELECT * FROM ({' UNION ALL '.join(f'({each})' for each in found)}) AS w{end}"


def plan_statement(query: ListQuery) -> Statement:
    """EXPLAIN of all rows that a query's conditions select, as JSON: how many Postgres plans for."""
    writer = Writer()
    source = _rows(writer, query.source, query.conditions)
    return Statement(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {source}".encode(), tuple(writer.values))


def _counted(writer: Writer, query: ListQuery) -> str:
    rows = f"SELECT 1 FROM {_rows(writer, query.source, query.conditions)}"
    if query.count == "exact":
        return f"SELECT count(*) AS number FROM ({rows}) AS a"
    return f"SELECT nullif(count(*), {ENOUGH + 1}) AS number FROM ({rows} LIMIT {ENOUGH + 1}) AS a"


def _rows(writer: Writer, source: Source, conditions: Sequence[Condition]) -> str:
    writer.values += source.values
    if not conditions:
        return source.sql
    return f"{source.sql} WHERE {' AND '.join(writer.condition(condition) for condition in conditions)}"


def table(version: Version) -> sql.Identifier:
    """All rows of a version."""
    return sql.Identifier(READ, version.relation)


def names(columns: Iterable[str]) -> sql.Composed:
    """Quoted, comma-separated."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))
