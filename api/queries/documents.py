"""Bodies of several queries, and how they look in OpenAPI."""

from __future__ import annotations

from typing import Any

import msgspec

from api.views.documents import PLACED, done
from mesh_core.read.several import MAX_QUERIES


class Query(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One of several queries."""

    view: str
    key: str | None = None
    parameters: dict[str, str | list[str]] = {}


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
        "rows": {"type": "array", "items": {"type": "object"}},
        "next": {"type": ["string", "null"], "description": "The cursor of the next page."},
        "prev": {"type": ["string", "null"], "description": "The cursor of the page before."},
        "count": {"type": "integer"},
    },
}
RESULTS: dict[int | str, Any] = {
    200: done(
        "The results, in the order of the queries, of one snapshot.",
        {
            "type": "object",
            "required": ["position", "results"],
            "properties": {
                "position": {"type": "object", "description": "Per topic and partition the next offset."},
                "results": {"type": "array", "items": _RESULT},
            },
        },
        PLACED,
    )
}
