"""How plans and deploys look in OpenAPI, and what a deploy can be asked."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from api.views.documents import answered, paged
from mesh_core.engine.planning import Change


class DeployWishes(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What whoever deploys may ask for; see the options of `mesh deploy`."""

    require_equal: bool = False
    accept_truncated: bool = False
    seed_from_live: bool = False


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_TIME = {"type": ["string", "null"], "format": "date-time"}
_COUNT = {"type": ["integer", "null"]}
_KIND = {"enum": ["entity", "view", "grants"]}
_STEP = {
    "kind": _KIND,
    "name": _TEXT,
    "change": {"enum": list(get_args(Change))},
    "details": _TEXTS | {"description": "What differs, for people."},
}
_COST = _STEP | {
    "reads": _TEXTS,
    "events": _COUNT,
    "rows": _COUNT,
    "seconds": {
        "type": ["number", "null"],
        "description": "About how long; null where none such was measured.",
    },
}
PLAN: dict[int | str, Any] = {
    200: {
        "description": "The plan.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["changes", "steps", "warnings"],
                    "properties": {
                        "changes": {"type": "boolean", "description": "Whether there is anything to do."},
                        "steps": {
                            "type": "array",
                            "items": {"type": "object", "required": [*_COST], "properties": _COST},
                        },
                        "warnings": _TEXTS,
                    },
                }
            }
        },
    }
}
_BUILD = {
    "type": "object",
    "properties": {
        "kind": _KIND,
        "name": _TEXT,
        "done": {"type": "integer", "description": "Events read, or rows of a view."},
        "total": _COUNT,
        "started_at": _TIME,
        "updated_at": _TIME,
        "finished_at": _TIME,
    },
}
_PROOF = {
    "type": "object",
    "description": "How new rows compare with those that served.",
    "properties": {"name": _TEXT},
}
_DEPLOY = {
    "type": "object",
    "required": [
        "id",
        "state",
        "started_by",
        "started_at",
        "finished_at",
        "plan",
        "builds",
        "proofs",
        "detail",
    ],
    "properties": {
        "id": {"type": "integer"},
        "state": {"enum": ["waiting", "running", "done", "refused", "failed", "interrupted"]},
        "started_by": {"type": ["string", "null"], "description": "user@host, or the subject over HTTP."},
        "started_at": _TIME,
        "finished_at": _TIME,
        "plan": {"type": "array", "items": {"type": "object", "properties": _STEP}},
        "builds": {"type": "array", "items": _BUILD},
        "proofs": {"type": "array", "items": _PROOF},
        "detail": {
            "type": ["string", "null"],
            "description": "Why it did not succeed and what to do, or what it noticed.",
        },
    },
}
DEPLOYS = paged("Deploys.", _DEPLOY)
DEPLOY = answered("The deploy.", _DEPLOY)
ACCEPTED: dict[int | str, Any] = {
    202: {
        "description": "It is recorded, and begins when no other is under way.",
        "headers": {"Location": {"schema": _TEXT, "description": "Its record."}},
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["id", "state"],
                    "properties": {"id": {"type": "integer"}, "state": _TEXT},
                }
            }
        },
    }
}
WISHES = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "title": "DeployWishes",
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "require_equal": {
                            "type": "boolean",
                            "description": "Refuse where new rows differ from those that serve.",
                        },
                        "accept_truncated": {
                            "type": "boolean",
                            "description": "Build from a log that has lost its beginning.",
                        },
                        "seed_from_live": {
                            "type": "boolean",
                            "description": "Begin with the rows that serve where a log has lost its beginning.",
                        },
                    },
                },
                "example": {},
            }
        },
    }
}
