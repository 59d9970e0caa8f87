"""From the parameters of a request to a checked query. Pure: every refusal names the parameter at fault."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mesh_core.model.identifiers import key_parts
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
)
from mesh_core.read.queries import Filter, ListQuery, PointQuery
from mesh_core.read.values import canonical
from mesh_core.read.versions import Version

PAGING = ("limit", "cursor")
NOT_YET = ("select", "order", "count")
"""Parameters that the language will have; refused, so that no request changes its meaning later."""
_OPERATOR_NOT_YET = re.compile(
    r"(neq|gt|gte|lt|lte|in|is|isdistinct|not|and|or|any|all|like|ilike|match|imatch|cs|cd|ov|fts)\."
)
MAX_FILTERS = 20

Parameters = Sequence[tuple[str, str]]


def list_query(version: Version, parameters: Parameters, *, limit: int, limit_max: int) -> ListQuery:
    """The query of a list; `limit` is the default. Raises UnknownParameter, Invalid… or CursorExpired."""
    filters: list[Filter] = []
    seen: dict[str, str] = {}
    for name, value in parameters:
        if name in PAGING:
            if name in seen:
                raise InvalidParameter(f"The parameter {name} is given twice.", remedy="Give it once.")
            seen[name] = value
        elif name in NOT_YET:
            raise UnknownParameter(
                f"The parameter {name} is not served yet.",
                remedy=f"Leave {name} out; filter by column=value.",
            )
        else:
            filters.append(_filter(version, name, value))
    if len(filters) > MAX_FILTERS:
        raise InvalidParameter(f"{len(filters)} filters; at most {MAX_FILTERS}.", remedy="Use fewer filters.")
    bounded = limit_of(seen.get("limit"), limit=limit, limit_max=limit_max)
    after = _after(version, seen["cursor"]) if "cursor" in seen else None
    return ListQuery(version, tuple(filters), bounded, after)


def point_query(version: Version, key: str) -> PointQuery:
    """The query of one row by its canonical key text. Raises InvalidKey."""
    try:
        parts = key_parts(key, len(version.key))
    except ValueError:
        raise InvalidKey(
            f"The key of {version.name} is {' , '.join(version.key)}: {len(version.key)} parts.",
            remedy="Percent-encode each part, join them by commas, then encode the whole as a path segment.",
        ) from None
    return PointQuery(version, _key_values(version, parts))


def limit_of(text: str | None, *, limit: int, limit_max: int) -> int:
    """The rows of a page. Raises InvalidParameter."""
    if text is None:
        return limit
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= limit_max):
        raise InvalidParameter(
            f"limit is not a whole number from 1 to {limit_max}.",
            remedy="Ask for fewer rows and follow the Link header to the next page.",
        )
    return int(text)


def _filter(version: Version, name: str, text: str) -> Filter:
    kind = version.columns.get(name)
    if kind is None:
        raise UnknownParameter(
            f"{version.name} has no column {shown(name)}.",
            remedy=f"{nearest(name, (*version.columns, *PAGING))}Columns: {listing(version.columns)}.",
        )
    if operator := _OPERATOR_NOT_YET.match(text):
        raise InvalidParameter(
            f'{name}: the operator "{operator[1]}" is not served yet.',
            remedy=f"Only equality is: {name}=eq.VALUE; for a text that starts so, {name}=eq.{operator[0]}…",
        )
    value = text.removeprefix("eq.")
    try:
        return Filter(name, "eq", canonical(kind.kind, value))
    except ValueError as error:
        raise InvalidValue(
            f"{name} cannot be {shown(value)}: {error}.", remedy=f"Correct the value of {name}."
        ) from None


def _after(version: Version, cursor: str) -> tuple[str, ...]:
    number, parts = decode_cursor(cursor)
    if number != version.number:
        raise CursorExpired(
            f"The cursor belongs to version {number} of {version.name}; version {version.number} serves now.",
            remedy="Start again without a cursor.",
        )
    try:
        return _key_values(version, parts)
    except InvalidKey:
        raise InvalidCursor(remedy='Take the cursor from the Link header, rel="next".') from None


def _key_values(version: Version, parts: Sequence[str]) -> tuple[str, ...]:
    values = []
    if len(parts) != len(version.key):
        raise InvalidKey
    for name, part in zip(version.key, parts, strict=True):
        try:
            values.append(canonical(version.columns[name].kind, part))
        except ValueError as error:
            raise InvalidKey(
                f"The key's {name} cannot be {shown(part)}: {error}.", remedy="Correct the key in the path."
            ) from None
    return tuple(values)


def shown(text: str) -> str:
    """What a client sent, quoted for a sentence: bounded, and without what JSON or a terminal cannot take."""
    return ascii(text[:80] + "…" if len(text) > 80 else text) if not text.isprintable() else repr(text[:80])
