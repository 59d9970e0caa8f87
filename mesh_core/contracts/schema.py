"""JSON Schema 2020-12 of contracts: it accepts what the decoder reads.

Some things the decoder refuses have no place in it: what is too large, too deep or has too many digits, the
characters that Postgres cannot store, and a whole number written with a point (`1.0`). Of texts it is a little
stricter than the decoder, which also takes `1_000` for a Decimal and a UUID without dashes.
"""

from __future__ import annotations

from typing import Any

from mesh_core.contracts.limits import MAX_INT, MIN_INT
from mesh_core.contracts.structs import (
    MAX_ID,
    MAX_SOURCE,
    MAX_SUBJECT,
    SEQUENCE_PATTERN,
    integer_bounds,
)
from mesh_core.model.event import Contract
from mesh_core.model.types import Field, FieldType

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DECIMAL_PATTERN = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$(?!\n)"
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_UUID = {"type": "string", "format": "uuid"}
_TIME = {"type": "string", "format": "date-time"}


def json_schema(contract: Contract) -> dict[str, Any]:
    """The schema of a whole event of `contract`: the structured CloudEvent with its payload in `data`."""
    return {
        "$schema": DIALECT,
        "title": contract.type,
        **({"description": contract.doc} if contract.doc else {}),
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
            "source": {"type": "string", "minLength": 1, "maxLength": MAX_SOURCE},
            "type": {"const": contract.type},
            "time": _TIME,
            "subject": {**_TEXT, "maxLength": MAX_SUBJECT},
            "workflowid": _nullable(_UUID),
            "sequence": {
                "anyOf": [
                    {"type": "integer", "minimum": MIN_INT, "maximum": MAX_INT},
                    {"type": "string", "pattern": SEQUENCE_PATTERN},
                    {"type": "null"},
                ]
            },
            "correlationid": _TEXT,
            "causationid": _TEXT,
            "tenantid": _TEXT,
            "traceparent": _TEXT,
            "tracestate": _TEXT,
            "data": _object(contract.fields),
        },
    }


def data_schema(contract: Contract) -> dict[str, Any]:
    """The schema of the payload of `contract` alone."""
    return {"$schema": DIALECT, "title": contract.type, **_object(contract.fields)}


def _object(fields: tuple[Field, ...]) -> dict[str, Any]:
    properties = {}
    for field in fields:
        properties[field.name] = _schema(field.type)
        if not field.required and field.default is not None:
            properties[field.name]["default"] = field.default
    required = [field.name for field in fields if field.required]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _schema(field: FieldType) -> dict[str, Any]:
    found = _plain(field)
    return _nullable(found) if field.nullable else found


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    if "anyOf" in schema:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]} if isinstance(schema.get("type"), str) else {}


def _plain(field: FieldType) -> dict[str, Any]:
    limits = dict(field.constraints)
    bounds = {_BOUNDS[name]: limit for name, limit in limits.items() if name in _BOUNDS}
    lengths = {name: limits[name] for name in ("min_length", "max_length") if name in limits}
    match field.kind:
        case "int":
            low, high = integer_bounds(limits)
            return {"type": "integer", "minimum": low, "maximum": high}
        case "float":
            return {"type": "number", **bounds}
        case "numeric":
            return {"anyOf": [{"type": "number", **bounds}, {"type": "string", "pattern": DECIMAL_PATTERN}]}
        case "text":
            names = {"min_length": "minLength", "max_length": "maxLength"}
            pattern = {"pattern": limits["pattern"]} if "pattern" in limits else {}
            return {"type": "string", **{names[name]: limit for name, limit in lengths.items()}, **pattern}
        case "bool":
            return {"type": "boolean"}
        case "timestamptz":
            return dict(_TIME)
        case "date":
            return {"type": "string", "format": "date"}
        case "uuid":
            return dict(_UUID)
        case "enum":
            return {"enum": list(field.values)}
        case "list":
            assert field.item is not None
            names = {"min_length": "minItems", "max_length": "maxItems"}
            return {
                "type": "array",
                "items": _schema(field.item),
                **{names[name]: limit for name, limit in lengths.items()},
            }
        case "object":
            return _object(field.fields)
        case "json":
            return {} if field.nullable else {"not": {"type": "null"}}
