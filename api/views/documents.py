"""How views look in OpenAPI: those of the catalogue, and each deployed one with its columns and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from api.answers import AGE, AGE_HEADER, LINK_HEADER, POSITION, POSITION_HEADER, RANGE_HEADER, TAG_HEADER
from api.problems import documented
from mesh_core.read.filters import PARAMETERS
from mesh_core.read.several import MAX_QUERIES

_HEADERS = {POSITION: POSITION_HEADER, AGE: AGE_HEADER, "ETag": TAG_HEADER}
_PAGE_HEADERS = _HEADERS | {"Link": LINK_HEADER, "Content-Range": RANGE_HEADER}

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


def _query(name: str, description: str) -> dict[str, Any]:
    # No examples: a page that tries requests out would send them all at once.
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}


_HEADER = {"in": "header", "schema": {"type": "string"}}
DEMAND: list[dict[str, Any]] = [
    _HEADER
    | {
        "name": "Mesh-Min-Position",
        "description": 'What the answer must reflect: the Mesh-Position of a write, `{"sales.events":{"0":42}}`.',
    },
    _HEADER
    | {
        "name": "Prefer",
        "description": "`wait=2` to wait so long for that; `max-staleness=60` to have nothing older.",
    },
]
SELECT = _query("select", "Columns, each perhaps as `name:column` or a place in JSON, `column->key->>key`.")
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
        "description": "Where the page starts, from the Link header of another page.",
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
        },
        304: {"description": "The client has it already, by If-None-Match."},
    }


def done(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a write answers: where it is in the log."""
    return {
        "description": description,
        "headers": {POSITION: POSITION_HEADER},
        "content": {"application/json": {"schema": dict(schema)}},
    }


def paged(description: str, item: Mapping[str, Any]) -> dict[int | str, Any]:
    """`responses` with a 200 of a page of these."""
    return answered(description, {"type": "array", "items": dict(item)}, _PAGE_HEADERS)


_ORDER = "Columns, each perhaps with .asc or .desc, then .nullsfirst or .nullslast."
_COMPARED = (
    "`eq`, `neq`, `gt`, `gte`, `lt`, `lte`, `in.(a,b)`, `is.null`, `isdistinct`, each also after `not.`"
)
_OPERATORS: Mapping[str, str] = dict.fromkeys(TYPES, _COMPARED) | {
    "text": f"`like`, `ilike` (`*` is any text), {_COMPARED}",
    "bool": f"`is.true`, `is.false`, {_COMPARED}",
    "json": "`cs.JSON` (contains), `eq`, `neq`, `is.null`, `isdistinct`, each also after `not.`",
}
COUNT: dict[str, Any] = {
    "name": "count",
    "in": "query",
    "description": "How many rows there are in all, in Content-Range.",
    "schema": {"enum": ["exact", "planned", "estimated"]},
}


class Query(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One of several queries."""

    view: str
    key: str | None = None
    parameters: dict[str, str | list[str]] = {}


def rows_answered(item: Mapping[str, Any]) -> dict[int | str, Any]:
    """`responses` with a 200 of a page of rows, or of all as lines or as CSV."""
    found = paged("A page of rows; all of them as NDJSON or CSV.", item)
    text = {"schema": {"type": "string"}}
    found[200]["content"] |= {"application/x-ndjson": text, "text/csv": text}
    return found


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

QUERIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_QUERIES,
                    "items": {
                        "title": "Query",
                        "type": "object",
                        "required": ["view"],
                        "additionalProperties": False,
                        "properties": {
                            "view": {"type": "string"},
                            "key": {"type": ["string", "null"], "description": "Of one row; else rows."},
                            "parameters": {
                                "type": "object",
                                "description": "As those of the view's own path.",
                                "additionalProperties": {
                                    "anyOf": [
                                        {"type": "string"},
                                        {"type": "array", "items": {"type": "string"}},
                                    ]
                                },
                            },
                        },
                    },
                },
                "example": [
                    {"view": "order_overview", "key": "10248"},
                    {
                        "view": "customer_overview",
                        "parameters": {"order": "lifetime_total.desc", "limit": "3"},
                    },
                ],
            }
        },
    }
}
_RESULT = {
    "type": "object",
    "properties": {
        "row": {
            "type": ["object", "null"],
            "description": "Of a query with a key; null where there is none.",
        },
        "rows": {"type": "array", "items": _OBJECT},
        "next": {"type": ["string", "null"], "description": "The cursor of the next page."},
        "prev": {"type": ["string", "null"], "description": "The cursor of the page before."},
        "count": {"type": "integer"},
    },
}
RESULTS = answered(
    "The results, in the order of the queries, of one snapshot.",
    {
        "type": "object",
        "required": ["position", "results"],
        "properties": {
            "position": {"type": "object", "description": "Per topic and partition the next offset."},
            "results": {"type": "array", "items": _RESULT},
        },
    },
)
VIEWS = answered("The views.", {"type": "array", "items": _VIEW})
RELATIONS = answered("Services, entities and edges.", _RELATIONS)


def row_paths() -> dict[str, Any]:
    """The paths of rows of any view."""
    view = {"name": "view", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    key = {"name": "key", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    order = _query("order", _ORDER)
    return {
        "/v1/views/{view}": {
            "get": {
                "tags": ["views"],
                "summary": "List Rows",
                "description": "A page of rows as JSON, or all of them as NDJSON or CSV. Any column of the view is a parameter.",
                "operationId": "list_rows",
                "parameters": [view, SELECT, order, *PAGING, COUNT, *DEMAND],
                "responses": _as_text(rows_answered(_OBJECT) | documented(400, 404, 406, 410, 504)),
            }
        },
        "/v1/views/{view}/{key}": {
            "get": {
                "tags": ["views"],
                "summary": "Get Row",
                "description": "The row with this key.",
                "operationId": "get_row",
                "parameters": [view, key, SELECT, *DEMAND],
                "responses": _as_text(answered("The row.", _OBJECT) | documented(400, 404, 406, 409, 504)),
            }
        },
    }


def view_paths(view: Mapping[str, Any]) -> dict[str, Any]:
    """The paths of one deployed view, as read from the catalogue."""
    name = view["name"]
    row = row_schema(view)
    about = f"Version {view['version']}, one row per {view['root']}."
    first = view["columns"][0]
    filters = [
        _query(column["name"], _OPERATORS[column["type"]])
        for column in view["columns"]
        if column["name"] not in PARAMETERS  # those are compared within and=(…)
    ]
    junctions = [
        _query(
            name, f"Keeps the rows that meet {which} of the conditions, as `({first['name']}.not.is.null,…)`."
        )
        for name, which in (("or", "any"), ("and", "all"), ("not.or", "none"), ("not.and", "not all"))
    ]
    order = _query("order", _ORDER)
    key = {
        "name": "key",
        "in": "path",
        "required": True,
        "description": f"{', '.join(view['key'])}: each percent-encoded and joined by commas if several.",
        "schema": {"type": "string", "minLength": 1},
    }
    return {
        f"/v1/views/{name}": {
            "get": {
                "tags": [name],
                "summary": f"Rows of {name}",
                "description": about,
                "operationId": f"list_{name}",
                "parameters": [SELECT, order, *PAGING, COUNT, *junctions, *filters, *DEMAND],
                "responses": _as_text(rows_answered(row) | documented(400, 406, 410, 504)),
            }
        },
        f"/v1/views/{name}/{{key}}": {
            "get": {
                "tags": [name],
                "summary": f"One row of {name}",
                "description": about,
                "operationId": f"get_{name}",
                "parameters": [key, SELECT, *DEMAND],
                "responses": _as_text(answered("The row.", row) | documented(400, 404, 406, 409, 504)),
            }
        },
    }


def row_schema(view: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a row: every column is there, null where it has no value."""
    return {
        "type": "object",
        "required": [column["name"] for column in view["columns"]],
        "properties": {column["name"]: _typed(column) for column in view["columns"]},
    }


def _typed(column: Mapping[str, Any]) -> dict[str, Any]:
    schema = TYPES[column["type"]]
    if column["nullable"] and "type" in schema:
        return schema | {"type": [schema["type"], "null"]}
    return schema


def _as_text(responses: Mapping[int | str, Any]) -> dict[str, Any]:
    return {str(status): response for status, response in responses.items()}
