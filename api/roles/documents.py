"""How roles and grants look in OpenAPI, and what can be said of them."""

from __future__ import annotations

from typing import Any

import msgspec

from api.views.documents import answered, done


class RoleSaid(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is said of a role."""

    doc: str = ""
    suspended: bool = False


class GrantSaid(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a role may see of a resource: any of these rules; none: nothing."""

    rules: list[Any]


_TEXT = {"type": "string"}
_WHEN = {
    "changed_at": {"type": ["string", "null"], "format": "date-time"},
    "changed_by": {"type": ["string", "null"], "description": "The subject; null of what is declared."},
}
_RULE = {
    "title": "GrantRule",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "columns": {"type": ["array", "null"], "items": _TEXT, "description": "Besides the key; null: all."},
        "where": {
            "type": "array",
            "maxItems": 20,
            "description": "Of the rows where all of these hold.",
            "items": {
                "type": "object",
                "required": ["column", "op"],
                "additionalProperties": False,
                "properties": {
                    "column": _TEXT,
                    "op": {"enum": ["eq", "in"]},
                    "claim": _TEXT | {"description": "A claim of the token; dots lead into objects."},
                    "value": {"type": ["string", "integer", "boolean"]},
                },
            },
        },
    },
}
_RULES = {"type": "array", "maxItems": 50, "items": _RULE}
_GRANT = {
    "resource": _TEXT
    | {"description": "view:NAME, entity:SERVICE.ENTITY, workflows, relations, timeline or publish:SERVICE."},
    "rules": _RULES,
    "origin": {"enum": ["declared", "central"]},
    **_WHEN,
    "inert": {"type": ["string", "null"], "description": "Why it has no effect, if it has none."},
}
_ROLE = {
    "role": _TEXT,
    "doc": _TEXT,
    "suspended": {"type": "boolean", "description": "Whether nobody has it for now."},
    **_WHEN,
}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties, **more}


ROLES = answered(
    "The roles.",
    {"type": "array", "items": _object(_ROLE | {"grants": {"type": "array", "items": _object(_GRANT)}})},
)
GRANTS = answered("The grants.", {"type": "array", "items": _object({"role": _TEXT} | _GRANT)})
_SAID = {"role": _TEXT, "changed_by": _TEXT}
ROLE_SAID: dict[int | str, Any] = {
    200: done("What is said of it now.", _object(_SAID | {"doc": _TEXT, "suspended": {"type": "boolean"}}))
}
GRANT_SAID: dict[int | str, Any] = {
    200: done("What it may see now.", _object(_SAID | {"resource": _TEXT, "rules": _RULES}))
}
FORGOTTEN: dict[int | str, Any] = {200: done("Nothing is said of it centrally any more.", _object(_SAID))}
REVOKED: dict[int | str, Any] = {
    200: done("What is declared holds again, if anything is.", _object(_SAID | {"resource": _TEXT}))
}


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


ROLE_BODY = _body(
    {
        "title": "RoleSaid",
        "type": "object",
        "additionalProperties": False,
        "properties": {"doc": _TEXT | {"maxLength": 2000}, "suspended": {"type": "boolean"}},
    },
    {"doc": "Who sells.", "suspended": False},
)
GRANT_BODY = _body(
    {
        "title": "GrantSaid",
        "type": "object",
        "required": ["rules"],
        "additionalProperties": False,
        "properties": {"rules": _RULES},
    },
    {
        "rules": [
            {"columns": ["total"], "where": [{"column": "customer_id", "op": "eq", "claim": "customer_id"}]}
        ]
    },
)
