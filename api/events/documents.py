"""How events look in OpenAPI."""

from __future__ import annotations

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
