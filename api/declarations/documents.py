"""How registered views look in OpenAPI, and a declaration as a person writes it."""

from __future__ import annotations

from typing import Any

from api.views.columns import TYPES
from api.views.documents import answered, done, paged
from mesh_core.model.view_checks import MAX_CACHE, MAX_COLUMNS, MAX_DOC
from mesh_core.model.view_data import OPERATORS

_TEXT = {"type": "string"}
_NAMES = {"type": "array", "items": _TEXT}
_EXPRESSION = {"$ref": "#/components/schemas/Expression"}
_EDGE: dict[str, Any] = {
    "title": "Edge",
    "description": "How another entity is reached. `one`: the row whose key equals `source_columns`. `many`: the rows "
    "whose `target_columns` hold the key of where it starts. `workflow`: the rows that share a workflow.",
    "type": "object",
    "required": ["kind", "target"],
    "additionalProperties": False,
    "properties": {
        "kind": {"enum": ["one", "many", "workflow"]},
        "target": _TEXT | {"description": "The entity that is reached, as `service.entity`."},
        "source_columns": _NAMES | {"description": "Of `one`: columns of where it starts."},
        "target_columns": _NAMES | {"description": "Of `many`: columns of the target."},
        "source": _TEXT | {"description": "Where it starts; derived."},
    },
}
_PATH = {"type": "array", "maxItems": 8, "items": {"$ref": "#/components/schemas/Edge"}}
_TYPE = {
    "type": "object",
    "description": "Derived; where it is written it must be so.",
    "properties": {
        "kind": {"enum": list(TYPES)},
        "nullable": {"type": "boolean"},
        "precision": {"type": "integer"},
        "scale": {"type": "integer"},
    },
}


def _form(title: str, description: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


_FORMS = [
    _form(
        "A column of the row, or of one reached over `one` edges.",
        "Null where there is no such row.",
        ["column"],
        column=_TEXT,
        path=_PATH,
        entity=_TEXT | {"description": "Derived."},
        type=_TYPE,
    ),
    _form(
        "A roll-up of the rows at the end of a path.",
        "`argument`, `where` and `by` are expressions over such a row. `latest` and `list` are in the order of `by`.",
        ["rollup", "path"],
        rollup={"enum": ["count", "sum", "min", "max", "latest", "list"]},
        path=_PATH,
        argument={"anyOf": [_EXPRESSION, {"type": "null"}]},
        where={"anyOf": [_EXPRESSION, {"type": "null"}]},
        by={"type": "array", "maxItems": 1, "items": _EXPRESSION},
        limit={"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
    ),
    _form(
        "Two expressions joined.",
        "Arithmetic, a comparison, a condition of two, or the first with a value.",
        ["op", "left", "right"],
        op={"enum": list(OPERATORS)},
        left=_EXPRESSION,
        right=_EXPRESSION,
    ),
    _form("The opposite of a condition.", "", ["not"], **{"not": _EXPRESSION}),
    _form(
        "Whether there is no value, or one.",
        "",
        ["is_null", "operand"],
        is_null={"type": "boolean"},
        operand=_EXPRESSION,
    ),
    _form(
        "A constant.",
        "A number with a point is exact.",
        ["value"],
        value={"type": ["string", "number", "boolean", "null"]},
    ),
    _form("An exact number as text.", "As `to_document` writes it.", ["decimal"], decimal=_TEXT),
]

_VIEW_DECLARATION: dict[str, Any] = {
    "title": "ViewDeclaration",
    "description": "A view: one row a row of `root`. Its root's key columns are among its columns, under their own names.",
    "type": "object",
    "required": ["name", "root", "columns"],
    "additionalProperties": False,
    "properties": {
        "name": _TEXT | {"maxLength": 40, "pattern": "^[a-z][a-z0-9_]*$"},
        "root": _TEXT | {"description": "The entity, as `service.entity`."},
        "columns": {
            "type": "array",
            "maxItems": MAX_COLUMNS,
            "items": {
                "type": "object",
                "required": ["name", "expression"],
                "additionalProperties": False,
                "properties": {
                    "name": _TEXT | {"maxLength": 40, "pattern": "^[a-z][a-z0-9_]*$"},
                    "expression": _EXPRESSION,
                    "doc": _TEXT | {"maxLength": MAX_DOC},
                    "type": _TYPE,
                },
            },
        },
        "indexes": {
            "type": "array",
            "items": {"anyOf": [_TEXT, _NAMES]},
            "description": "Columns that reads filter or order by.",
        },
        "doc": _TEXT | {"maxLength": MAX_DOC},
        "cache": {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_CACHE},
                {"enum": ["no-store", None]},
            ],
            "description": "For how many seconds an answer may be used again without asking.",
        },
        "key": _NAMES | {"description": "Derived."},
    },
}
SCHEMAS: dict[str, Any] = {
    "ViewDeclaration": _VIEW_DECLARATION,
    "Expression": {"title": "Expression", "anyOf": _FORMS},
    "Edge": _EDGE,
}
"""What the others name."""

EXAMPLE: dict[str, Any] = {
    "name": "customer_worth",
    "root": "crm.customer",
    "doc": "A customer with what is still open, and all that was ordered.",
    "cache": 60,
    "indexes": ["country"],
    "columns": [
        {"name": "customer_id", "expression": {"column": "customer_id"}},
        {"name": "country", "expression": {"column": "country"}},
        {
            "name": "open_orders",
            "doc": "Orders whose shipment has not left.",
            "expression": {
                "rollup": "count",
                "path": [{"kind": "many", "target": "sales.order", "target_columns": ["customer_id"]}],
                "where": {
                    "is_null": True,
                    "operand": {
                        "column": "shipped_at",
                        "path": [
                            {"kind": "one", "target": "logistics.shipment", "source_columns": ["order_id"]}
                        ],
                    },
                },
            },
        },
        {
            "name": "total",
            "doc": "In dollars, after discounts.",
            "expression": {
                "rollup": "sum",
                "path": [
                    {"kind": "many", "target": "sales.order", "target_columns": ["customer_id"]},
                    {"kind": "many", "target": "sales.line", "target_columns": ["order_id"]},
                ],
                "argument": {
                    "op": "*",
                    "left": {"op": "*", "left": {"column": "unit_price"}, "right": {"column": "quantity"}},
                    "right": {"op": "-", "left": {"value": 1}, "right": {"column": "discount"}},
                },
            },
        },
    ],
}
DECLARATION = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ViewDeclaration"},
                "example": EXAMPLE,
            }
        },
    }
}
_WHO = {
    "name": _TEXT,
    "declaration": {"type": "object", "description": "A ViewDeclaration with all that is derived."},
    "registered_by": _TEXT | {"description": "The subject."},
}
_REGISTERED = {
    "type": "object",
    "required": [*_WHO, "registered_at"],
    "properties": _WHO | {"registered_at": {"type": "string", "format": "date-time"}},
}
REGISTERED_VIEWS = paged("The registered views.", _REGISTERED)
REGISTERED_VIEW = answered("The registered view.", _REGISTERED)
REGISTERED: dict[int | str, Any] = {
    200: done("The view as it was registered.", {"type": "object", "required": [*_WHO], "properties": _WHO})
}
REMOVED: dict[int | str, Any] = {
    200: done(
        "It is registered no more.",
        {"type": "object", "required": ["name"], "properties": {"name": _TEXT, "removed_by": _TEXT}},
    )
}
