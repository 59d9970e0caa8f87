"""How columns look in OpenAPI: their types, examples of their values and of filters on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES: Mapping[str, dict[str, Any]] = {
    "int": {"type": "integer", "format": "int64"},
    "text": {"type": "string"},
    "numeric": {"type": "number", "description": "Exact: read it as a decimal."},
    "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "timestamptz": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "json": {},
}
EXAMPLES: Mapping[str, Any] = {
    "int": 42,
    "text": "text",
    "numeric": 440.5,
    "float": 0.5,
    "bool": True,
    "timestamptz": "1996-07-04T09:30:00Z",
    "date": "1996-07-04",
    "uuid": "0198a000-0000-7000-8000-000000000001",
    "json": {"key": ["value"]},
}
"""A value of each type."""

_COMPARED = (
    "`eq`, `neq`, `gt`, `gte`, `lt`, `lte`, `in.(a,b)`, `is.null`, `isdistinct`, each also after `not.`"
)
FILTERS: Mapping[str, str] = {
    kind: f"gte.{value}" for kind, value in EXAMPLES.items() if kind not in ("text", "bool", "json")
} | {"text": "ilike.*text*", "bool": "is.true", "json": 'cs.{"key":["value"]}'}
"""A filter of each."""
_OPERATORS: Mapping[str, str] = dict.fromkeys(TYPES, _COMPARED) | {
    "text": f"`like`, `ilike` (`*` is any text), {_COMPARED}",
    "bool": f"`is.true`, `is.false`, {_COMPARED}",
    "json": "`cs.JSON` (contains), `eq`, `neq`, `is.null`, `isdistinct`, each also after `not.`",
}


def row_schema(view: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a row: every column is there, null where it has no value."""
    return {
        "type": "object",
        "required": [column["name"] for column in view["columns"]],
        "properties": {column["name"]: _typed(column) for column in view["columns"]},
    }


def filter_of(kind: str) -> str:
    """What a filter of a column of this type can be, for people."""
    # The page at /docs shows no example of a schema.
    return f"{_OPERATORS[kind]}. For example `{FILTERS[kind]}`."


def _typed(column: Mapping[str, Any]) -> dict[str, Any]:
    schema = TYPES[column["type"]] | {"examples": [EXAMPLES[column["type"]]]}
    if said := described(column, schema.get("description", "")):
        schema |= {"description": said}
    if column["nullable"] and "type" in schema:
        return schema | {"type": [schema["type"], "null"]}
    return schema


def described(column: Mapping[str, Any], about: str) -> str:
    """What is said of a column, then what is so of all of its type."""
    return "\n\n".join(filter(None, (column.get("doc"), about)))
