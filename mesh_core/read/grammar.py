"""From the parameters of a request to a checked query. Pure: every refusal names the parameter at fault."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import get_args

from mesh_core.model.identifiers import key_parts
from mesh_core.model.types import ColumnKind
from mesh_core.read.conditions import Condition, Reference
from mesh_core.read.cursor import decode_cursor
from mesh_core.read.errors import (
    CursorExpired,
    InvalidCursor,
    InvalidKey,
    InvalidParameter,
    InvalidValue,
    UnknownParameter,
    listing,
    nearest,
    shown,
)
from mesh_core.read.filters import JUNCTIONS, PARAMETERS, Bounds, Filters, reference
from mesh_core.read.queries import Count, ListQuery, Order, Output, PointQuery, Source
from mesh_core.read.values import canonical
from mesh_core.read.versions import Version

COUNTS: tuple[Count, ...] = get_args(Count)
MAX_OUTPUTS = 200
MAX_ORDER = 10

_ALIAS = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,62}):(?!:)")
_DIRECTION = re.compile(r"(?:\.(asc|desc))?(?:\.(nullsfirst|nullslast))?")

Parameters = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Paging:
    """How lists are cut into pages: rows in one, by default and at most, and the key that signs cursors.

    `rows` is the most that a stream has; `bounds` are those of filters.
    """

    limit: int
    limit_max: int
    key: bytes
    rows: int = 10**9
    bounds: Bounds = field(default_factory=Bounds)


def list_query(
    version: Version, parameters: Parameters, paging: Paging, *, unbounded: bool = False
) -> ListQuery:
    """The query of a list; `unbounded` if it is no page. Raises UnknownParameter, Invalid… or CursorExpired."""
    given: dict[str, str] = {}
    conditions: list[Condition] = []
    filters = Filters(version, paging.bounds)
    for name, value in parameters:
        if name in PARAMETERS:
            if name in given:
                raise InvalidParameter(f"The parameter {name} is given twice.", remedy="Give it once.")
            given[name] = value
        elif name in JUNCTIONS:
            conditions.append(filters.of_junction(name, value))
        else:
            conditions.append(filters.of_column(name, value))
    count = _count(given.get("count"))
    if unbounded:
        for name in ("count", "cursor"):
            if name in given:
                raise InvalidParameter(
                    f"{name} goes with pages, not with all rows.",
                    remedy=f"Leave {name} out, or ask for JSON.",
                )
    source = source_of(version)
    if count is not None and source.ruled:
        count = "exact"  # what Postgres plans for would tell of rows that are others'
    query = ListQuery(
        source,
        tuple(conditions),
        outputs_of(version, given.get("select")),
        _order(version, source, given.get("order")),
        limit_of(given.get("limit"), paging, unbounded=unbounded),
        count=count,
    )
    return at_cursor(query, given.get("cursor"), paging.key)


def _count(text: str | None) -> Count | None:
    for known in COUNTS:
        if text == known:
            return known
    if text is None:
        return None
    raise InvalidParameter(
        f"count is not {shown(text)}.", remedy=f"{nearest(text, COUNTS)}It is one of {listing(COUNTS)}."
    )


def only_select(parameters: Parameters) -> str | None:
    """The parameter `select` of a read of one row, which takes no other. Raises UnknownParameter, InvalidParameter."""
    found = None
    for name, value in parameters:
        if name != "select":
            raise UnknownParameter(
                f"One row has no parameter {shown(name)}.",
                remedy="It takes select alone; filters are for lists.",
            )
        if found is not None:
            raise InvalidParameter("The parameter select is given twice.", remedy="Give it once.")
        found = value
    return found


def fixed_query(
    source: Source,
    columns: Mapping[str, ColumnKind],
    order: Sequence[str],
    paging: Paging,
    limit: str | None,
    cursor: str | None,
    conditions: Sequence[Condition] = (),
    *,
    descending: bool = False,
) -> ListQuery:
    """The query of a list whose columns and order are given. Raises InvalidParameter, InvalidCursor."""
    outputs = tuple(Output(name, Reference(name, kind)) for name, kind in columns.items())
    parts = tuple(Order(Reference(name, columns[name]), descending) for name in order)
    query = ListQuery(source, tuple(conditions), outputs, parts, limit_of(limit, paging))
    return at_cursor(query, cursor, paging.key)


def checked(name: str, kind: ColumnKind, text: str) -> str:
    """`text` as Postgres takes it. Raises InvalidValue naming the parameter."""
    try:
        return canonical(kind, text)
    except ValueError as error:
        raise InvalidValue(f"{name}: {error}.", remedy=f"Correct the value of {name}.") from None


@lru_cache(maxsize=1000)
def source_of(version: Version) -> Source:
    """The rows of a version."""
    nullable = frozenset(name for name, kind in version.columns.items() if kind.nullable)
    return Source(
        version.name,
        version.rows,
        version.topics,
        (version.id,),
        version.values,
        nullable=nullable,
        ruled=version.ruled,
        cache=version.cache,
    )


def at_cursor(query: ListQuery, cursor: str | None, key: bytes) -> ListQuery:
    """A query from where a cursor is. Raises InvalidCursor, and CursorExpired where it is of another order of rows."""
    if cursor is None:
        return query
    scope, place = decode_cursor(key, cursor)
    if scope[:1] != query.scope[:1]:
        raise InvalidCursor(
            remedy=f"It is of {shown(scope[0])}; take one from a page of {query.source.name}."
        )
    if scope != query.scope:
        raise CursorExpired(remedy="Start again without a cursor.")
    return replace(query, place=place)


def outputs_of(version: Version, text: str | None) -> tuple[Output, ...]:
    """What a row has of a version, as `select` says. Raises UnknownParameter, InvalidParameter."""
    everything = _everything(version)
    if text is None:
        return everything
    found: list[Output] = []
    parts = _parts("select", text)
    if len(parts) > MAX_OUTPUTS:
        raise InvalidParameter(
            f"select has {len(parts)} columns; at most {MAX_OUTPUTS}.", remedy="Select fewer."
        )
    for part in parts:
        if part == "*":
            found += everything
            continue
        alias = _ALIAS.match(part)
        wanted = whole_reference(version, "select", part[alias.end() :] if alias else part)
        found.append(Output(alias[1] if alias else (wanted.path or (wanted.column,))[-1], wanted))
    names = [output.name for output in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameter(
                f"select gives {shown(name)} twice.", remedy="Give one of them another name: name:column."
            )
        if not _ALIAS.fullmatch(f"{name}:"):
            raise InvalidParameter(
                f"select: {shown(name)} cannot be the name of a column.",
                remedy="Give it one: name:column->>key.",
            )
    return tuple(found)


@lru_cache(maxsize=1000)
def _everything(version: Version) -> tuple[Output, ...]:
    return tuple(Output(name, Reference(name, kind.kind)) for name, kind in version.columns.items())


def _order(version: Version, source: Source, text: str | None) -> tuple[Order, ...]:
    """The order asked for, then the key, so that no two rows are equal in it."""
    found: list[Order] = []
    parts = _parts("order", text) if text is not None else []
    if len(parts) > MAX_ORDER:
        raise InvalidParameter(
            f"order has {len(parts)} columns; at most {MAX_ORDER}.", remedy="Order by fewer."
        )
    for part in parts:
        wanted, end = reference(version, part, 0, "order")
        direction = _DIRECTION.fullmatch(part, end)
        if direction is None:
            raise InvalidParameter(
                f"order: {shown(part)} does not end as an order does.",
                remedy="Write column.asc or column.desc, then perhaps .nullsfirst or .nullslast.",
            )
        if wanted.kind == "json":
            raise InvalidParameter(
                f"order: {shown(part)} is JSON, which has no order.", remedy="Use ->> to order by its text."
            )
        descending = direction[1] == "desc"
        # As Postgres has it: nulls count as greater than all else. Where there are none, its index is read so, too.
        nulls_first = (
            direction[2] == "nullsfirst" if direction[2] and source.is_nullable(wanted) else descending
        )
        if wanted in [order.reference for order in found]:
            raise InvalidParameter(f"order: {shown(part)} is there twice.", remedy="Name it once.")
        found.append(Order(wanted, descending, nulls_first))
    there = {order.reference for order in found}
    key = [Reference(name, version.columns[name].kind) for name in version.key]
    # The key goes the way of what it follows: then one index can answer both.
    descending = bool(found) and found[-1].descending
    return (*found, *(Order(each, descending, descending) for each in key if each not in there))


def _parts(name: str, text: str) -> list[str]:
    """What commas separate, but for those in double quotes."""
    parts = re.findall(r'((?:[^",]|"(?:[^"\\]|\\.)*")*)(?:,|$)', text)[: text.count(",") + 1]
    if not text or any(not part for part in parts) or ",".join(parts) != text:
        raise InvalidParameter(f"{name}={shown(text)} cannot be read.", remedy=f"Write {name}=column,column.")
    return parts


def whole_reference(version: Version, name: str, text: str) -> Reference:
    """A column or a place in one, and nothing else. Raises UnknownParameter, InvalidParameter."""
    found, end = reference(version, text, 0, name)
    if end != len(text):
        raise InvalidParameter(
            f"{name}: {shown(text)} is not a column or a place in one.",
            remedy="For example tags->>colour; an operator has no place here.",
        )
    return found


def point_query(version: Version, key: str, select: str | None = None) -> PointQuery:
    """The query of one row by its canonical key text. Raises InvalidKey, UnknownParameter or InvalidParameter."""
    try:
        parts = key_parts(key, len(version.key))
    except ValueError:
        raise InvalidKey(
            f"The key of {version.name} is {' , '.join(version.key)}: {len(version.key)} parts.",
            remedy="Percent-encode each part, join them by commas, then encode the whole as a path segment.",
        ) from None
    return PointQuery(version, _key_values(version, parts), outputs_of(version, select))


def limit_of(text: str | None, paging: Paging, *, unbounded: bool = False) -> int:
    """The rows of a page, or of what is no page. Raises InvalidParameter."""
    if text is None:
        # Of all rows one more than there may be, to know whether there are more.
        return paging.rows + 1 if unbounded else paging.limit
    most = paging.rows if unbounded else paging.limit_max
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
        raise InvalidParameter(
            f"limit is not a whole number from 1 to {most}.",
            remedy="Send such a number; further rows are on the pages that the Link header leads to.",
        )
    return int(text)


def _key_values(version: Version, parts: Sequence[str]) -> tuple[str, ...]:
    values = []
    if len(parts) != len(version.key):
        raise InvalidKey
    for name, part in zip(version.key, parts, strict=True):
        try:
            values.append(canonical(version.columns[name].kind, part))
        except ValueError as error:
            raise InvalidKey(
                f"The key's {name} cannot be {shown(part)}: {error}.", remedy="Correct the key."
            ) from None
    return tuple(values)
