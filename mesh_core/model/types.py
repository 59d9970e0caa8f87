"""Types of event fields and of columns, as plain data.

A `FieldType` describes one value of a contract; it is read from a Python annotation, and becomes a msgspec
type (to decode), a JSON Schema (to publish) or plain JSON (to store). A `ColumnType` describes a column of
an entity or a view; it becomes a Postgres type.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

FieldKind = Literal[
    "int", "text", "numeric", "float", "bool", "timestamptz", "date", "uuid", "json", "list", "object", "enum"
]
ColumnKind = Literal["int", "text", "numeric", "float", "bool", "timestamptz", "date", "uuid", "json"]

SCALARS: Mapping[Any, ColumnKind] = {
    int: "int",
    str: "text",
    Decimal: "numeric",
    float: "float",
    bool: "bool",
    datetime: "timestamptz",
    date: "date",
    UUID: "uuid",
}
KEY_KINDS: frozenset[ColumnKind] = frozenset({"int", "text", "uuid", "date"})
NUMBERS: frozenset[ColumnKind] = frozenset({"int", "numeric", "float"})
CONSTRAINTS = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")


def constant_value(kind: ColumnKind, value: Any) -> Any:
    """What a declared constant is in a column of `kind`: as plain JSON, Decimals, times and ids are text.

    Raises ValueError where it is none.
    """
    if not isinstance(value, str):
        return float(value) if kind == "float" and value is not None else value
    match kind:
        case "numeric":
            try:
                return Decimal(value)
            except ArithmeticError:
                raise ValueError(f"{value!r} is not a number") from None
        case "uuid":
            return UUID(value)
        case "date":
            return date.fromisoformat(value)
        case "timestamptz":
            if (time := datetime.fromisoformat(value)).tzinfo is None:
                raise ValueError(f"{value!r} does not say its zone, such as +00:00")
            return time
    return value


def constant_text(value: Any) -> Any:
    """A declared constant as plain JSON."""
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) else value


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a column holds. `precision` and `scale` are digits in all and after the point, numerics only."""

    kind: ColumnKind
    nullable: bool = False
    precision: int | None = None
    scale: int | None = None

    @property
    def sql(self) -> str:
        """The Postgres type; an unbounded numeric unless precision and scale are declared."""
        if self.kind == "numeric" and self.precision is not None:
            return f"numeric({self.precision},{self.scale or 0})"
        return SQL_TYPES[self.kind]

    def as_nullable(self) -> ColumnType:
        """The same, where a value can be missing."""
        return ColumnType(self.kind, True, self.precision, self.scale)

    def to_json(self) -> dict[str, object]:
        """As plain JSON."""
        facts = {
            "kind": self.kind,
            "nullable": self.nullable,
            "precision": self.precision,
            "scale": self.scale,
        }
        return {name: value for name, value in facts.items() if value not in (None, False)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ColumnType:
        """What `to_json` wrote."""
        return cls(data["kind"], data.get("nullable", False), data.get("precision"), data.get("scale"))


SQL_TYPES: Mapping[ColumnKind, str] = {
    "int": "bigint",
    "text": "text",
    "numeric": "numeric",
    "float": "double precision",
    "bool": "boolean",
    "timestamptz": "timestamptz",
    "date": "date",
    "uuid": "uuid",
    "json": "jsonb",
}


@dataclass(frozen=True, slots=True)
class FieldType:
    """One value of a contract. `item` is a list's element, `fields` an object's, `values` an enum's."""

    kind: FieldKind
    nullable: bool = False
    item: FieldType | None = None
    fields: tuple[Field, ...] = ()
    values: tuple[str | int, ...] = ()
    constraints: tuple[tuple[str, Any], ...] = ()

    @property
    def column_kind(self) -> ColumnKind:
        """The kind of column that can hold this value."""
        if self.kind in ("list", "object", "json"):
            return "json"
        if self.kind == "enum":
            return "int" if all(isinstance(value, int) for value in self.values) else "text"
        return typing.cast(ColumnKind, self.kind)

    def field(self, name: str) -> Field | None:
        """The field of that name of an object, or None."""
        return next((field for field in self.fields if field.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        data: dict[str, Any] = {"kind": self.kind}
        if self.nullable:
            data["nullable"] = True
        if self.item:
            data["item"] = self.item.to_json()
        if self.fields:
            data["fields"] = [field.to_json() for field in self.fields]
        if self.values:
            data["values"] = list(self.values)
        if self.constraints:
            data["constraints"] = dict(self.constraints)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FieldType:
        """What `to_json` wrote."""
        return cls(
            data["kind"],
            data.get("nullable", False),
            cls.from_json(data["item"]) if "item" in data else None,
            tuple(Field.from_json(field) for field in data.get("fields", ())),
            tuple(data.get("values", ())),
            tuple(data.get("constraints", {}).items()),
        )


@dataclass(frozen=True, slots=True)
class Field:
    """A named value of a contract. A field that is not `required` may be left out: it is `default` then."""

    name: str
    type: FieldType
    required: bool = True
    default: Any = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        data: dict[str, Any] = {"name": self.name, "type": self.type.to_json()}
        return data if self.required else {**data, "default": self.default}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Field:
        """What `to_json` wrote."""
        return cls(
            data["name"], FieldType.from_json(data["type"]), "default" not in data, data.get("default")
        )


class UnsupportedType(TypeError):
    """A Python annotation that has no place in a contract or a table."""


def without_none(annotation: Any) -> tuple[Any, bool]:
    """(`X`, True) for `X | None`, (`X`, False) otherwise. Raises UnsupportedType on other unions."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) != 1:
            raise UnsupportedType(f"{annotation} is a choice of types; declare one type, or one | None")
        return members[0], len(members) < len(get_args(annotation))
    return annotation, False


def field_type(annotation: Any, metadata: tuple[Any, ...] = ()) -> FieldType:
    """The FieldType of a Python annotation. Raises UnsupportedType."""
    inner, nullable = without_none(annotation)
    if get_origin(inner) is typing.Annotated:
        inner, *extra = get_args(inner)
        metadata = (*metadata, *extra)
    if get_origin(inner) is typing.Annotated:
        raise UnsupportedType(f"{annotation} is annotated twice")
    limits = tuple(sorted(_constraints(metadata).items()))
    if inner in SCALARS:
        return FieldType(SCALARS[inner], nullable, constraints=limits)
    if inner is Any or inner is dict or get_origin(inner) is dict:
        return FieldType("json", nullable)
    if get_origin(inner) is list or (get_origin(inner) is tuple and get_args(inner)[1:] == (...,)):
        return FieldType("list", nullable, item=field_type(get_args(inner)[0]), constraints=limits)
    if get_origin(inner) is Literal:
        return FieldType("enum", nullable, values=_choices(annotation, get_args(inner)))
    if isinstance(inner, type) and issubclass(inner, Enum):
        members = tuple(member.value for member in inner)
        return FieldType("enum", nullable, values=_choices(annotation, members))
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return FieldType("object", nullable, fields=model_fields(inner))
    raise UnsupportedType(f"{annotation} has no place in an event or a table")


def _choices(annotation: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if {type(value) for value in values} not in ({str}, {int}):
        raise UnsupportedType(f"{annotation} is a choice of other things than texts, or than whole numbers")
    return values


def model_fields(model: type[BaseModel]) -> tuple[Field, ...]:
    """The fields of a pydantic model. Raises UnsupportedType naming the field."""
    fields = []
    for name, info in model.model_fields.items():
        try:
            kind = field_type(info.annotation, tuple(info.metadata))
        except UnsupportedType as error:
            raise UnsupportedType(f"{model.__name__}.{name}: {error}") from None
        called = info.alias or name
        if not called.isidentifier() or called.startswith("__"):
            raise UnsupportedType(f"{model.__name__}.{name}: {called!r} is not a name that a field can have")
        fields.append(Field(called, kind, info.is_required(), _plain_default(model, name, info)))
    return tuple(fields)


def _plain_default(model: type[BaseModel], name: str, info: FieldInfo) -> Any:
    if info.is_required():
        return None
    default = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, Enum):
        return default.value
    if default is None or isinstance(default, bool | int | str | float):
        return default
    if isinstance(default, Decimal | UUID):
        return str(default)
    if isinstance(default, list | dict | tuple) and not default:
        return type(default)() if not isinstance(default, tuple) else []
    raise UnsupportedType(f"{model.__name__}.{name}: a default must be a plain value, not {default!r}")


def _constraints(metadata: tuple[Any, ...]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for entry in metadata:
        entries = entry if isinstance(entry, annotated_types.GroupedMetadata) else (entry,)
        for item in entries:
            for name in CONSTRAINTS:
                value = getattr(item, name, None)
                if value is None:
                    continue
                if not isinstance(value, int | float | str | Decimal):
                    raise UnsupportedType(f"{name}={value!r} is not a limit that a contract can state")
                limits[name] = float(value) if isinstance(value, Decimal) else value
    return limits
