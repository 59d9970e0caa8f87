"""How contracts look in OpenAPI."""

from __future__ import annotations

from typing import Any

from api.problems import MEDIA_TYPE
from api.views.documents import answered, done

_TEXT = {"type": "string"}
_SCHEMAS = {
    "type": "object",
    "description": "The JSON Schema of each payload by event type, `<service>.<entity>.<past-tense verb>.v<major>`.",
    "minProperties": 1,
    "maxProperties": 500,
    "additionalProperties": {"type": "object"},
}
CONTRACTS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "title": "Contracts",
                    "type": "object",
                    "required": ["contracts"],
                    "additionalProperties": False,
                    "properties": {"contracts": _SCHEMAS},
                },
                "example": {
                    "contracts": {
                        "courier.parcel.sent.v1": {
                            "description": "A parcel has left.",
                            "type": "object",
                            "required": ["parcel_id", "sent_at"],
                            "properties": {
                                "parcel_id": {"type": "string", "maxLength": 40},
                                "sent_at": {"type": "string", "format": "date-time"},
                                "weight": {"type": ["number", "null"], "minimum": 0},
                            },
                        }
                    }
                },
            }
        },
    }
}
_WHO = {"service": _TEXT, "contracts": _SCHEMAS, "registered_by": _TEXT | {"description": "The subject."}}
REGISTERED = answered(
    "The registered contracts.",
    {
        "type": "object",
        "required": [*_WHO, "registered_at"],
        "properties": _WHO | {"registered_at": {"type": "string", "format": "date-time"}},
    },
)
_BREAKS = {"type": ["string", "null"]}
_CHANGE = {
    "type": "object",
    "required": ["type", "path", "what", "breaks"],
    "properties": {
        "type": _TEXT,
        "path": _TEXT,
        "what": _TEXT,
        "breaks": {"type": "object", "properties": {"backward": _BREAKS, "forward": _BREAKS}},
    },
}
REGISTERED_NOW: dict[int | str, Any] = {
    200: done(
        "The contracts as they were registered, and how they differ from those before.",
        {
            "type": "object",
            "required": [*_WHO, "changes"],
            "properties": _WHO | {"changes": {"type": "array", "items": _CHANGE}},
        },
    )
}
REMOVED: dict[int | str, Any] = {
    200: done(
        "They are registered no more.",
        {"type": "object", "required": ["service"], "properties": {"service": _TEXT, "removed_by": _TEXT}},
    )
}
INCOMPATIBLE: dict[int | str, Any] = {
    409: {
        "description": "A change would break who reads these events, or what was published; `errors` says which.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
