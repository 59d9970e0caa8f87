"""Bodies of workflow requests, and how workflows look in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from api.views.documents import answered, done, paged


class NewWorkflow(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a workflow can be created with."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    attributes: dict[str, Any] | None = None


_TIME = {"type": ["string", "null"], "format": "date-time"}
_ENTRY = {
    "type": "object",
    "required": ["service", "entity", "key"],
    "properties": {
        "service": {"type": "string"},
        "entity": {"type": "string"},
        "key": {"type": "string"},
        "registered_at": _TIME,
        "origins": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Topics that registered it.",
        },
        "row": {"type": ["object", "null"], "description": "With expand=rows: the entity's row."},
        "views": {
            "type": "object",
            "description": "With expand=rows: rows of the views rooted in it, by name.",
        },
    },
}
_HEAD = {
    "workflow_id": {"type": "string", "format": "uuid"},
    "name": {"type": ["string", "null"]},
    "attributes": {"type": ["object", "null"]},
    "created_at": _TIME,
    "created_by": {"type": ["string", "null"]},
}
_WORKFLOW = {
    "type": "object",
    "required": ["workflow_id", "entries"],
    "properties": _HEAD
    | {
        "entries": {"type": "array", "items": _ENTRY},
        "truncated": {"type": "boolean", "description": "Whether there are more entries than are told."},
    },
}

WORKFLOW = answered("The workflow and its entries.", _WORKFLOW)
CREATED: dict[int | str, Any] = {201: done("The new workflow.", _WORKFLOW)}
CREATED[201]["headers"] |= {
    "Location": {"schema": {"type": "string"}, "description": "Where the workflow is."}
}
REGISTERED: dict[int | str, Any] = {200: done("The entry.", _ENTRY)}
WORKFLOWS = paged(
    "The workflows.",
    {
        "type": "object",
        "required": ["workflow_id"],
        "properties": {
            "workflow_id": _HEAD["workflow_id"],
            "name": _HEAD["name"],
            "created_at": _TIME,
            "registered_at": _TIME,
        },
    },
)
NEW_WORKFLOW = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "title": "NewWorkflow",
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 200},
                        "attributes": {"type": ["object", "null"]},
                    },
                },
                "example": {"name": "order 10248", "attributes": {"channel": "web"}},
            }
        },
    }
}
