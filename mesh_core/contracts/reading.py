"""Contracts from JSON Schema: what `data_schema` wrote, and what services in other languages declare.

Of JSON Schema it takes the part that a contract can hold, and refuses the rest by its place, so that nothing of a schema
is silently not checked. Words that only describe (title, examples, …) are passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import msgspec

from mesh_core.contracts.limits import MAX_INT, MIN_INT
from mesh_core.contracts.structs import MAX_TYPE, envelope_struct
from mesh_core.errors import UsageError
from mesh_core.model.event import TYPE_PATTERN, Contract
from mesh_core.model.identifiers import name_problem
from mesh_core.model.types import Field, FieldType

MAX_CONTRACTS = 500
MAX_FIELDS = 5_000
"""Fields of a contract, or of all that a service registers; those of parts count wherever they are named."""
MAX_MATCHED = 1_000
"""Characters of a text that a registered pattern is tried on."""
_DESCRIBING = frozenset(
    [
        "$schema",
        "$id",
        "$comment",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
    ]
)
_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
_TEXT = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
_ITEMS = {"minItems": "min_length", "maxItems": "max_length"}
_ATOM = r"(?:\\[dwsDWS.\-+*?()\[\]{}^$|/\\]|\[\^?(?:\\.|[^\]\\])+\]|[^\\\[\](){}*+?^$|])"
_ONCE = rf"{_ATOM}(?:\?|\{{[0-9]{{1,2}}\}})?"
_PLAIN_PATTERN = re.compile(
    rf"\^(?:{_ONCE})*(?:{_ATOM}(?:[+*]|\{{[0-9]{{1,3}},[0-9]{{0,3}}\}}))?(?:{_ONCE})*\$?"
)
"""A pattern without groups, choices or backreferences, in which one place alone repeats as often as it may."""
_OPTIONAL = 3
"""Question marks in a pattern: each may double what it takes."""
_FORMATS = {"uuid": "uuid", "date-time": "timestamptz", "date": "date"}


class SchemaNotUnderstood(UsageError):
    """A JSON Schema says what a contract cannot hold."""


def contract_of(event_type: str, schema: Any) -> Contract:
    """The contract of an event type whose payload has this JSON Schema. Raises SchemaNotUnderstood."""
    return _contract(event_type, schema, count(1), trusted=True)


def _contract(event_type: str, schema: Any, fields: Iterator[int], *, trusted: bool) -> Contract:
    """`fields` counts them. Where its author is not `trusted`, a pattern must be one that cannot take long."""
    known = TYPE_PATTERN.fullmatch(event_type)
    if known is None or len(event_type) > MAX_TYPE or len(known["major"]) > 9:
        raise SchemaNotUnderstood(
            f"{event_type[:256]!r} is not a type of event.",
            remedy="<service>.<entity>.<past-tense verb>.v<major>",
        )
    reader = _Reader(event_type, schema, fields, trusted)
    found = reader.type("$", schema)
    if found.kind != "object" or found.nullable:
        raise reader.error("$", 'is not an object with "properties"')
    contract = Contract(event_type, found.fields, str(schema.get("description", "")))
    try:
        envelope_struct(contract)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise reader.error("$", f"has a default or a limit that does not fit: {error}") from None
    return contract


def contracts_of(service: str, schemas: Mapping[str, Any]) -> list[Contract]:
    """The contracts of a service from the JSON Schemas of its payloads, by event type. Raises SchemaNotUnderstood."""
    if problem := name_problem(service):
        raise SchemaNotUnderstood(f"No service has this name: {problem}.", remedy="For example `courier`.")
    if service == "mesh":
        raise SchemaNotUnderstood("The events of `mesh` are its own.", remedy="Name your service.")
    if len(schemas) > MAX_CONTRACTS:
        raise SchemaNotUnderstood(
            f"{len(schemas)} contracts; a service has at most {MAX_CONTRACTS}.",
            remedy="Make two services of it.",
        )
    for event_type in schemas:
        if not event_type.startswith(f"{service}."):
            raise SchemaNotUnderstood(
                f"{event_type[:256]!r} is not an event of {service}.",
                remedy=f"Its type reads {service}.<entity>.<past-tense verb>.v<major>.",
            )
    fields = count(1)
    return [_contract(each, schemas[each], fields, trusted=False) for each in sorted(schemas)]


class _Reader:
    def __init__(self, event_type: str, schema: Any, fields: Iterator[int], trusted: bool) -> None:
        self._event_type, self._root, self._trusted = event_type, schema, trusted
        self._fields = fields
        self._open: list[str] = []

    def error(self, path: str, problem: str, remedy: str = "") -> SchemaNotUnderstood:
        return SchemaNotUnderstood(
            f"The schema of {self._event_type} at {path} {problem}.",
            remedy=remedy or "docs/reference/contracts.md says what of JSON Schema a contract can hold.",
        )

    def type(self, path: str, schema: Any) -> FieldType:
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise self.error(path, "is not a schema")
        if "$ref" in schema:
            return self._referenced(path, schema)
        if schema.get("not") == {"type": "null"} and self._only(path, schema, "not"):
            return FieldType("json")
        for name in ("anyOf", "oneOf"):
            if name in schema:
                self._only(path, schema, name)
                return self._choice(f"{path}.{name}", schema[name])
        if "enum" in schema or "const" in schema:
            return self._enum(path, schema)
        kind = schema.get("type")
        if kind is None:
            self._only(path, schema)
            return FieldType("json", nullable=True)
        kinds = kind if isinstance(kind, list) else [kind]
        nullable = "null" in kinds
        plain = [each for each in kinds if each != "null"]
        if len(plain) != 1:
            raise self.error(f"{path}.type", "is not one type, or one and null", "Declare one type.")
        read = {
            "string": self._string,
            "integer": self._number,
            "number": self._number,
            "boolean": self._boolean,
            "array": self._array,
            "object": self._object,
        }.get(plain[0] if isinstance(plain[0], str) else "")
        if read is None:
            raise self.error(f"{path}.type", f"is {str(plain[0])[:40]!r}, which is no type")
        return _nullable(read(path, schema), nullable)

    def _only(self, path: str, schema: Mapping[str, Any], *known: str) -> bool:
        """Raises SchemaNotUnderstood for a word that is not looked at."""
        for name in schema:
            if name not in known and name not in _DESCRIBING:
                raise self.error(f"{path}.{name}", "is not understood")
        return True

    def _referenced(self, path: str, schema: Mapping[str, Any]) -> FieldType:
        self._only(path, schema, "$ref")
        name = schema["$ref"]
        found = self._root
        if not isinstance(name, str) or not name.startswith("#/"):
            raise self.error(f"{path}.$ref", "is not a place in this schema", "Put what it names into $defs.")
        for step in name[2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, dict) else None
        if found is None:
            raise self.error(f"{path}.$ref", f"names {name[:100]}, which is not there")
        if name in self._open:
            raise self.error(f"{path}.$ref", f"names {name[:100]}, which it is part of")
        self._open.append(name)
        try:
            return self.type(path, found)
        finally:
            self._open.pop()

    def _choice(self, path: str, schemas: Any) -> FieldType:
        if not isinstance(schemas, list):
            raise self.error(path, "is not a list")
        rest = [each for each in schemas if each != {"type": "null"}]
        nullable = len(rest) < len(schemas)
        if len(rest) == 1:
            return _nullable(self.type(f"{path}[{schemas.index(rest[0])}]", rest[0]), nullable)
        kinds = [each.get("type") if isinstance(each, dict) else None for each in rest]
        if sorted(map(str, kinds)) == ["number", "string"]:
            number, text = rest[kinds.index("number")], rest[kinds.index("string")]
            self._only(f"{path}[{schemas.index(text)}]", text, "type", "pattern")
            found = self._number(f"{path}[{schemas.index(number)}]", number)
            return FieldType("numeric", nullable, constraints=found.constraints)
        raise self.error(
            path,
            "is a choice of types",
            "Declare one type, one and null, or number and string for exact numbers.",
        )

    def _enum(self, path: str, schema: Mapping[str, Any]) -> FieldType:
        self._only(path, schema, "enum", "const", "type")
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list):
            raise self.error(f"{path}.enum", "is not a list")
        if "enum" in schema and "const" in schema:
            raise self.error(f"{path}.const", "is beside an enum")
        kinds = {{str: "string", int: "integer", type(None): "null"}.get(type(value), "") for value in values}
        told = schema.get("type", [])
        if told and not kinds <= {*(told if isinstance(told, list) else [told])} | {""}:
            raise self.error(f"{path}.type", "is not that of the values of its enum")
        plain = [value for value in values if value is not None]
        for value in plain:
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise self.error(
                    f"{path}.enum", f"has {str(value)[:40]!r}, which is neither text nor whole number"
                )
        if not plain:
            raise self.error(f"{path}.enum", "has no value")
        return FieldType("enum", len(plain) < len(values), values=tuple(dict.fromkeys(plain)))

    def _string(self, path: str, schema: Mapping[str, Any]) -> FieldType:
        self._only(path, schema, "type", "format", *_TEXT)
        limits = self._limits(path, schema, _TEXT)
        form = schema.get("format")
        if form == "decimal" and not limits:
            return FieldType("numeric")
        if kind := _FORMATS.get(str(form)):
            if limits:
                raise self.error(f"{path}.{next(iter(limits))}", f"does not go with the format {form}")
            return FieldType(kind)  # type: ignore[arg-type]  # one of the kinds
        if "pattern" in limits:
            if not self._trusted and limits.get("max_length", MAX_MATCHED + 1) > MAX_MATCHED:
                raise self.error(f"{path}.pattern", f"needs a maxLength of at most {MAX_MATCHED:,} beside it")
            if not self._trusted and not _is_plain(limits["pattern"]):
                raise self.error(
                    f"{path}.pattern",
                    "may take long",
                    "Write ^…$ of characters and [classes], each perhaps with {n}, one of them with +, * or {n,m}, three with ?.",
                )
            try:
                re.compile(limits["pattern"])
            except (re.error, OverflowError, RecursionError) as error:
                raise self.error(f"{path}.pattern", f"is no regular expression: {error}") from None
        return FieldType("text", constraints=tuple(sorted(limits.items())))

    def _number(self, path: str, schema: Mapping[str, Any]) -> FieldType:
        self._only(path, schema, "type", "format", *_BOUNDS)
        limits = self._limits(path, schema, _BOUNDS)
        if "integer" in (schema["type"], *(schema["type"] if isinstance(schema["type"], list) else ())):
            if limits.get("ge", MAX_INT) <= MIN_INT:
                del limits["ge"]
            if limits.get("le", MIN_INT) >= MAX_INT:
                del limits["le"]
            return FieldType("int", constraints=tuple(sorted(limits.items())))
        return FieldType("float", constraints=tuple(sorted(limits.items())))

    def _boolean(self, path: str, schema: Mapping[str, Any]) -> FieldType:
        self._only(path, schema, "type")
        return FieldType("bool")

    def _array(self, path: str, schema: Mapping[str, Any]) -> FieldType:
        self._only(path, schema, "type", "items", *_ITEMS)
        limits = self._limits(path, schema, _ITEMS)
        item = self.type(f"{path}.items", schema.get("items", {}))
        return FieldType("list", item=item, constraints=tuple(sorted(limits.items())))

    def _object(self, path: str, schema: Mapping[str, Any]) -> FieldType:
        if schema.get("additionalProperties") is False:
            raise self.error(
                f"{path}.additionalProperties",
                "is false, but a reader of events passes over fields that it does not know",
                "Leave it out, so that fields can be added later.",
            )
        if "properties" not in schema:
            self._only(path, schema, "type", "additionalProperties")
            return FieldType("json")
        self._only(path, schema, "type", "properties", "required", "additionalProperties")
        properties, required = schema["properties"], schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise self.error(path, 'has "properties" or "required" that are none')
        if unknown := [name for name in required if name not in properties]:
            raise self.error(f"{path}.required", f"names {str(unknown[0])[:80]!r}, which is no property")
        fields = []
        for name, described in properties.items():
            where = f"{path}.properties.{name[:80]}"
            if not name.isidentifier() or name.startswith("__"):
                raise self.error(where, "is not a name that a field can have: letters, digits, underscores")
            if next(self._fields) > MAX_FIELDS:
                raise self.error(path, f"is the place of more than {MAX_FIELDS:,} fields in all")
            kind = self.type(where, described)
            default = described.get("default") if isinstance(described, dict) else None
            needed = name in required
            if kind.kind in ("list", "object", "json") and not needed and default not in (None, [], {}):
                raise self.error(f"{where}.default", "is neither null nor empty")
            fields.append(Field(name, kind, needed, None if needed else default))
        return FieldType("object", fields=tuple(fields))

    def _limits(self, path: str, schema: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        limits = {}
        for name, ours in names.items():
            if name not in schema:
                continue
            value = schema[name]
            wanted: Any = (
                str if name == "pattern" else (int, float) if ours in ("ge", "gt", "le", "lt") else int
            )
            if isinstance(value, bool) or not isinstance(value, wanted) or (wanted is int and value < 0):
                raise self.error(f"{path}.{name}", f"is {str(value)[:40]!r}, which is no limit")
            if isinstance(value, float) and not math.isfinite(value):
                raise self.error(f"{path}.{name}", "is no number")
            limits[ours] = value
        return limits


def _is_plain(pattern: str) -> bool:
    return (
        len(pattern) <= 200
        and pattern.count("?") <= _OPTIONAL
        and _PLAIN_PATTERN.fullmatch(pattern) is not None
    )


def _nullable(found: FieldType, nullable: bool) -> FieldType:
    if not nullable or found.nullable:
        return found
    return FieldType(found.kind, True, found.item, found.fields, found.values, found.constraints)
