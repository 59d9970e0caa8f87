"""How views look in OpenAPI: those of the catalogue, and each deployed one with its columns and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.answers import AGE, AGE_HEADER, LINK_HEADER, POSITION, POSITION_HEADER, RANGE_HEADER, TAG_HEADER
from api.problems import documented
from api.views.columns import EXAMPLES, FILTERS, TYPES, described, filter_of, row_schema
from mesh_core.model.identifiers import key_text
from mesh_core.read.filters import JUNCTIONS, PARAMETERS

_POSITION = {POSITION: POSITION_HEADER}
PLACED = _POSITION | {AGE: AGE_HEADER}
"""Headers of what is read."""
_HEADERS = PLACED | {"ETag": TAG_HEADER}
_PAGE_HEADERS = _HEADERS | {"Link": LINK_HEADER, "Content-Range": RANGE_HEADER}


def _query(name: str, description: str, *examples: str) -> dict[str, Any]:
    # Examples of the schema alone: a page that tries requests out fills in all others, and would send them at once.
    schema = {"type": "string"} | ({"examples": list(examples)} if examples else {})
    return {"name": name, "in": "query", "description": description, "schema": schema}


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
        200: done(description, schema, headers),
        304: {"description": "The client has it already, by If-None-Match."},
    }


def done(
    description: str, schema: Mapping[str, Any], headers: Mapping[str, Any] = _POSITION
) -> dict[str, Any]:
    """What answers a POST or a PUT, which is never 304: by default a write, with where it is in the log."""
    return {
        "description": description,
        "headers": dict(headers),
        "content": {"application/json": {"schema": dict(schema)}},
    }


def paged(description: str, item: Mapping[str, Any]) -> dict[int | str, Any]:
    """`responses` with a 200 of a page of these."""
    return answered(description, {"type": "array", "items": dict(item)}, _PAGE_HEADERS)


COUNT: dict[str, Any] = {
    "name": "count",
    "in": "query",
    "description": "How many rows there are in all, in Content-Range.",
    "schema": {"enum": ["exact", "planned", "estimated"]},
}


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
        "doc": {"type": "string", "description": "What is said of it; absent where that is nothing."},
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
    "required": [
        "name",
        "doc",
        "version",
        "key",
        "columns",
        "cache",
        "root",
        "entities",
        "topics",
        "freshness",
    ],
    "properties": {
        "name": {"type": "string"},
        "doc": {"type": "string", "description": "What is said of it."},
        "version": {"type": "integer"},
        "live_at": {"type": ["string", "null"], "format": "date-time"},
        "key": {"type": "array", "items": {"type": "string"}},
        "columns": {"type": "array", "items": _COLUMN},
        "cache": {
            "description": "For how many seconds an answer may be used again without asking; null: it is asked.",
            "anyOf": [{"type": "integer"}, {"enum": ["no-store", None]}],
        },
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

_NULLABLE = {"type": ["string", "null"]}
_NUMBER = {"type": ["integer", "null"]}
_STEP = {
    "type": "object",
    "description": "What is told of the event is null where whoever asks may not see it in the timeline.",
    "required": ["change", "columns"],
    "properties": {
        "service": _NULLABLE,
        "type": _NULLABLE,
        "id": _NULLABLE,
        "subject": _NULLABLE | {"description": "The key of the entity that it is of."},
        "time": _NULLABLE | {"format": "date-time"},
        "recorded_at": _NULLABLE | {"format": "date-time", "description": "When it came into the log."},
        "workflow_id": _NULLABLE | {"format": "uuid"},
        "topic": _NULLABLE,
        "partition": _NUMBER,
        "offset": _NUMBER,
        "released": {
            "type": "array",
            "items": _OBJECT,
            "description": "Of a decision on a dead letter: the records that it had applied.",
        },
        "change": {"enum": ["created", "changed", "deleted"]},
        "columns": {
            "type": "object",
            "description": "The columns that it changed, each with its value `before` and `after`.",
            "additionalProperties": {"type": "object", "required": ["before", "after"]},
        },
    },
}

VIEWS = answered("The views.", {"type": "array", "items": _VIEW})
RELATIONS = answered("Services, entities and edges.", _RELATIONS)


def row_paths() -> dict[str, Any]:
    """The paths of rows of any view."""
    view = {"name": "view", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    about = "Any column of the view is a parameter."
    return _paths(
        "/v1/views/{view}", "views", ("list_rows", "get_row", "get_history"), about, {}, [view], [], _OBJECT
    )


def view_paths(view: Mapping[str, Any]) -> dict[str, Any]:
    """The paths of one deployed view, as read from the catalogue."""
    name, first = view["name"], view["columns"][0]["name"]
    junctions = [
        _query(other, f"Keeps the rows that meet {which} of the conditions, as `({first}.not.is.null,…)`.")
        for other, which in (("or", "any"), ("and", "all"), ("not.or", "none"), ("not.and", "not all"))
    ]
    filters = [
        _query(column["name"], described(column, filter_of(column["type"])), FILTERS[column["type"]])
        for column in view["columns"]
        if column["name"] not in (*PARAMETERS, *JUNCTIONS)  # those are compared within and=(…)
    ]
    about = f"{view['doc']}\n\nVersion {view['version']}, one row per {view['root']}.".strip()
    types = {column["name"]: column["type"] for column in view["columns"]}
    key = {
        "description": f"{', '.join(view['key'])}: each percent-encoded and joined by commas if several.",
        "examples": [key_text([EXAMPLES[types[name]] for name in view["key"]])],
    }
    names = (f"list_{name}", f"get_{name}", f"get_history_of_{name}")
    return _paths(f"/v1/views/{name}", name, names, about, key, [], [*junctions, *filters], row_schema(view))


def _paths(
    path: str,
    tag: str,
    names: tuple[str, str, str],
    about: str,
    key: Mapping[str, Any],
    within: list[dict[str, Any]],
    filters: list[dict[str, Any]],
    row: Mapping[str, Any],
) -> dict[str, Any]:
    """The paths of rows, of one row and of its history; `key` describes its key, `within` are parameters of all."""
    of_key = {
        "name": "key",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1, **key},
    }
    in_order = _query("order", "Columns, each perhaps with .asc or .desc, then .nullsfirst or .nullslast.")

    def get(name: str, summary: str, parameters: list[dict[str, Any]], responses: Any) -> dict[str, Any]:
        return {
            "get": {
                "tags": [tag],
                "summary": summary,
                "description": about,
                "operationId": name,
                "parameters": parameters,
                "responses": {str(status): response for status, response in responses.items()},
            }
        }

    rows = [*within, SELECT, in_order, *PAGING, COUNT, *filters, *DEMAND]
    one = [*within, of_key, SELECT, *DEMAND]
    return {
        path: get(names[0], f"Rows of {tag}", rows, rows_answered(row) | documented(400, 404, 406, 410, 504)),
        f"{path}/{{key}}": get(
            names[1],
            f"One row of {tag}",
            one,
            answered("The row.", row) | documented(400, 404, 406, 409, 504),
        ),
        f"{path}/{{key}}/history": get(
            names[2],
            f"The history of one row of {tag}, the newest event first",
            [*within, of_key, *PAGING],
            paged("The events that changed it, and what each changed.", _STEP)
            | documented(400, 404, 406, 422),
        ),
    }
