"""How views look in OpenAPI: those of the catalogue, and each deployed one with its columns and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.answers import LINK_HEADER, POSITION, POSITION_HEADER
from api.problems import documented

_HEADERS = {POSITION: POSITION_HEADER}
_PAGE_HEADERS = _HEADERS | {"Link": LINK_HEADER}

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
    "int": 10248,
    "text": "ALFKI",
    "numeric": 440.25,
    "float": 0.5,
    "bool": True,
    "timestamptz": "2026-01-31T12:00:00+00:00",
    "date": "2026-01-31",
    "uuid": "0198c0de-0000-7000-8000-000000000000",
    "json": [],
}

PAGING: list[dict[str, Any]] = [
    {
        "name": "limit",
        "in": "query",
        "description": "Rows in a page.",
        "schema": {"type": "integer", "minimum": 1},
    },
    {
        "name": "cursor",
        "in": "query",
        "description": 'Where the page starts, from the Link header, rel="next", of the one before.',
        "schema": {"type": "string"},
    },
]


def answered(
    description: str, schema: Mapping[str, Any], headers: Mapping[str, Any] = _HEADERS
) -> dict[int | str, Any]:
    """`responses` with a 200 of JSON."""
    return {
        200: {
            "description": description,
            "headers": dict(headers),
            "content": {"application/json": {"schema": dict(schema)}},
        }
    }


def paged(description: str, item: Mapping[str, Any]) -> dict[int | str, Any]:
    """`responses` with a 200 of a page of these."""
    return answered(description, {"type": "array", "items": dict(item)}, _PAGE_HEADERS)


_OBJECT = {"type": "object"}
_COLUMN = {
    "type": "object",
    "required": ["name", "type", "nullable"],
    "properties": {
        "name": {"type": "string"},
        "type": {"enum": list(TYPES)},
        "nullable": {"type": "boolean"},
        "precision": {"type": "integer"},
        "scale": {"type": "integer"},
    },
}
_FRESHNESS = {
    "type": "object",
    "required": ["stale", "reason", "position", "applied_at", "event_time"],
    "properties": {
        "stale": {
            "type": "boolean",
            "description": "Whether something keeps it from being brought up to date.",
        },
        "reason": {"type": ["string", "null"]},
        "position": {"type": "object", "description": "Per topic and partition the next offset."},
        "applied_at": {"type": ["string", "null"], "format": "date-time", "description": "The last commit."},
        "event_time": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "The newest event that it reflects.",
        },
    },
}
_VIEW = {
    "type": "object",
    "required": ["name", "version", "key", "columns", "root", "entities", "topics", "freshness"],
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "integer"},
        "live_at": {"type": ["string", "null"], "format": "date-time"},
        "key": {"type": "array", "items": {"type": "string"}},
        "columns": {"type": "array", "items": _COLUMN},
        "root": {"type": "string"},
        "entities": {"type": "array", "items": {"type": "string"}},
        "topics": {"type": "array", "items": {"type": "string"}},
        "freshness": _FRESHNESS,
    },
}
_RELATIONS = {
    "type": "object",
    "required": ["services", "entities", "edges"],
    "properties": {name: {"type": "array", "items": _OBJECT} for name in ("services", "entities", "edges")},
}

VIEWS = answered("The views.", {"type": "array", "items": _VIEW})
RELATIONS = answered("Services, entities and edges.", _RELATIONS)
ROWS = paged("A page of rows.", _OBJECT)
ROW = answered("The row.", _OBJECT)


def view_paths(view: Mapping[str, Any]) -> dict[str, Any]:
    """The paths of one deployed view, as read from the catalogue."""
    name = view["name"]
    row = row_schema(view)
    about = f"Version {view['version']}, one row per {view['root']}."
    filters = [
        {
            "name": column["name"],
            "in": "query",
            "description": "Keeps the rows that are equal: `value` or `eq.value`.",
            "schema": {"type": "string"},
        }
        for column in view["columns"]
        if column["type"] != "json"
    ]
    key = {
        "name": "key",
        "in": "path",
        "required": True,
        "description": f"{', '.join(view['key'])}: each percent-encoded and joined by commas if several.",
        "schema": {"type": "string", "minLength": 1},
        "example": ",".join(
            str(EXAMPLES[column["type"]]) for column in view["columns"] if column["name"] in view["key"]
        ),
    }
    return {
        f"/v1/views/{name}": {
            "get": {
                "tags": [name],
                "summary": f"Rows of {name}",
                "description": about,
                "operationId": f"list_{name}",
                "parameters": [*PAGING, *filters],
                "responses": _as_text(paged("A page of rows.", row) | documented(400, 410)),
            }
        },
        f"/v1/views/{name}/{{key}}": {
            "get": {
                "tags": [name],
                "summary": f"One row of {name}",
                "description": about,
                "operationId": f"get_{name}",
                "parameters": [key],
                "responses": _as_text(answered("The row.", row) | documented(400, 404)),
            }
        },
    }


def row_schema(view: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a row: every column is there, null where it has no value."""
    return {
        "type": "object",
        "required": [column["name"] for column in view["columns"]],
        "properties": {column["name"]: _typed(column) for column in view["columns"]},
        "example": {column["name"]: EXAMPLES[column["type"]] for column in view["columns"]},
    }


def _typed(column: Mapping[str, Any]) -> dict[str, Any]:
    schema = TYPES[column["type"]]
    if column["nullable"] and "type" in schema:
        return schema | {"type": [schema["type"], "null"]}
    return schema


def _as_text(responses: Mapping[int | str, Any]) -> dict[str, Any]:
    return {str(status): response for status, response in responses.items()}
