"""How events look in OpenAPI."""

from __future__ import annotations

from typing import Any

from api.views.documents import paged

_TEXT = {"type": "string"}
TIMELINE = paged(
    "Where the events are in the log.",
    {
        "type": "object",
        "required": [
            "time",
            "type",
            "service",
            "entity",
            "subject",
            "workflow_id",
            "topic",
            "partition",
            "offset",
        ],
        "properties": {
            "time": {"type": "string", "format": "date-time"},
            "type": _TEXT,
            "service": _TEXT,
            "entity": _TEXT,
            "subject": _TEXT,
            "workflow_id": {"type": "string", "format": "uuid"},
            "topic": _TEXT,
            "partition": {"type": "integer"},
            "offset": {"type": "integer"},
        },
    },
)

_EVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "subject", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "maxLength": 256},
        "source": {"type": "string", "minLength": 1, "maxLength": 2048, "examples": ["/sales"]},
        "type": {"type": "string", "examples": ["sales.order.placed.v1"]},
        "subject": {
            "type": "string",
            "minLength": 1,
            "description": "The key of what the event is of, as text.",
        },
        "time": {"type": "string", "format": "date-time"},
        "workflowid": {"type": "string", "format": "uuid"},
        "sequence": {"type": "integer", "description": "Rises with the events of a key."},
        "data": {"type": "object", "description": "By the contract of the type."},
    },
}
EVENTS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/cloudevents+json": {"schema": _EVENT},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _EVENT}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "The data alone; the attributes are headers, as `ce-id`, `ce-type`.",
                }
            },
        },
    }
}
_PUBLISHED = {
    "type": "object",
    "required": ["position", "events"],
    "properties": {
        "position": {"type": "object", "description": "What a read must reach to reflect all of them."},
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["status", "id"],
                "properties": {
                    "status": {"enum": [202, 422]},
                    "id": {"type": ["string", "null"]},
                    "source": _TEXT,
                    "topic": _TEXT,
                    "partition": {"type": "integer"},
                    "offset": {"type": "integer"},
                    "duplicate": {"type": "boolean", "description": "Whether it was published before."},
                    "index": {"type": "integer"},
                    "type": {"type": ["string", "null"]},
                    "reason": _TEXT,
                    "detail": _TEXT,
                },
            },
        },
    },
}
PUBLISHED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Where the log has each event, in the order in which they were sent.",
        "content": {"application/json": {"schema": _PUBLISHED}},
        "headers": {
            "Mesh-Position": {"schema": _TEXT, "description": "What a read must reach to reflect them."}
        },
    }
}
