"""Entities: the slim copy of one service's thing, folded from the events of one topic."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from mesh_core.model.binding import bind_folds
from mesh_core.model.errors import DeclarationError
from mesh_core.model.event import topic_of
from mesh_core.model.expressions import ColumnRef, KeyRef
from mesh_core.model.folds import Fold, FoldDeclaration
from mesh_core.model.identifiers import name_problem, snake_case
from mesh_core.model.types import (
    KEY_KINDS,
    ColumnType,
    UnsupportedType,
    constant_text,
    constant_value,
    field_type,
)

E = TypeVar("E", bound="Entity")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class EntityColumn:
    """A column of an entity. `default` is what it holds at creation when the event does not say."""

    name: str
    type: ColumnType
    key: bool = False
    default: Any = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"name": self.name, "type": self.type.to_json(), "key": self.key, "default": self.default}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EntityColumn:
        """What `to_json` wrote."""
        return cls(data["name"], ColumnType.from_json(data["type"]), data["key"], data["default"])


@dataclass(frozen=True)
class EntityModel:
    """An entity as plain data. `name` is `<service>.<entity>`."""

    name: str
    columns: tuple[EntityColumn, ...]
    folds: tuple[Fold, ...]
    tombstones: bool = False
    record_key_count: int | None = None
    doc: str = ""

    @property
    def service(self) -> str:
        """The service whose thing it is a copy of."""
        return self.name.split(".")[0]

    @property
    def topic(self) -> str:
        """The one topic that feeds it."""
        return self.folds[0].contract.topic if self.folds else topic_of(self.service)

    @property
    def entity(self) -> str:
        """The name without the service."""
        return self.name.split(".")[1]

    @property
    def table(self) -> str:
        """The stem of its physical tables."""
        return self.name.replace(".", "_")

    @cached_property
    def key(self) -> tuple[str, ...]:
        """Names of the key columns, in order."""
        return tuple(column.name for column in self.columns if column.key)

    @cached_property
    def record_key(self) -> tuple[str, ...]:
        """The leading key columns that make the record key: all, or the parent's where `each` is used."""
        if self.record_key_count is not None:
            return self.key[: self.record_key_count]
        each = next((fold for fold in self.folds if fold.each), None)
        if each is None:
            return self.key
        return self.key[: sum(source.scope == "data" for source in each.keys)]

    def column(self, name: str) -> EntityColumn:
        """Raises KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "name": self.name,
            "columns": [column.to_json() for column in self.columns],
            "folds": [fold.to_json() for fold in self.folds],
            "tombstones": self.tombstones,
            "record_key_count": self.record_key_count,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EntityModel:
        """What `to_json` wrote."""
        return cls(
            data["name"],
            tuple(EntityColumn.from_json(column) for column in data["columns"]),
            tuple(Fold.from_json(fold) for fold in data["folds"]),
            data["tombstones"],
            data.get("record_key_count"),
        )


class Col(Generic[T_co]):
    """Annotates a column: `name: Col[str | None]`. `Order.name` is the column in expressions."""

    if TYPE_CHECKING:

        def __get__(self, instance: None, owner: type[E]) -> ColumnRef[E, T_co]: ...


class Key(Generic[T]):
    """Annotates a column of the key: int, str, UUID or date."""

    if TYPE_CHECKING:

        def __get__(self, instance: None, owner: type[E]) -> KeyRef[E, T]: ...


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """What `column` was given."""

    default: Any = None
    precision: int | None = None
    scale: int | None = None


def column(*, default: Any = None, precision: int | None = None, scale: int | None = None) -> Any:
    """Options of a column: its value at creation, and for Decimals the digits in all and after the point.

    An event with more digits than that is refused, never rounded.
    """
    return ColumnOptions(default, precision, scale)


class Entity:
    """Subclass with `service=`, annotate columns with Key and Col, and list `folds`."""

    model: ClassVar[EntityModel]
    models: ClassVar[dict[str, EntityModel]] = {}
    """Every entity declared in this process by name, for edges to find."""
    folds: ClassVar[FoldDeclaration | tuple[FoldDeclaration, ...]] = ()

    def __init_subclass__(
        cls,
        *,
        service: str = "",
        name: str = "",
        tombstones: bool = False,
        record_key_count: int | None = None,
    ) -> None:
        """`tombstones`: a record without a value deletes the row, as in a compacted topic.

        `record_key_count`: how many leading key columns make the record key, if not all (or as `each` says).
        """
        super().__init_subclass__()
        if not service:
            raise DeclarationError(
                f"{cls.__name__}: no service.", remedy=f'class {cls.__name__}(Entity, service="…").'
            )
        short = name or snake_case(cls.__name__)
        for problem in filter(None, (name_problem(service), name_problem(f"{service}_{short}"))):
            raise DeclarationError(f"{cls.__name__}: {problem}.")
        columns = tuple(_columns(cls))
        keys = [column.name for column in columns if column.key]
        if not keys:
            raise DeclarationError(f"{cls.__name__}: no key.", remedy="Annotate a column with Key[…].")
        if [column.name for column in columns][: len(keys)] != keys:
            raise DeclarationError(f"{cls.__name__}: the key's columns must come first.")
        declared = (cls.folds,) if isinstance(cls.folds, FoldDeclaration) else tuple(cls.folds)
        columns, folds = bind_folds(cls.__name__, service, columns, declared)
        model = EntityModel(
            f"{service}.{short}", columns, folds, tombstones, record_key_count, inspect.getdoc(cls) or ""
        )
        cls._publish(model)

    @classmethod
    def _publish(cls, model: EntityModel) -> None:
        cls.model = model
        Entity.models[model.name] = model
        for entry in model.columns:
            kind: Any = KeyRef if entry.key else ColumnRef
            setattr(cls, entry.name, kind(model.name, entry.name, entry.type))

    def __new__(cls) -> Self:
        """Raises DeclarationError."""
        raise DeclarationError(f"{cls.__name__} is a declaration; it has no instances.")


def _columns(cls: type[Entity]) -> typing.Iterator[EntityColumn]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise DeclarationError(
            f"{cls.__name__}: {error}.", remedy="Import the type at the module's top level."
        ) from None
    for name in cls.__annotations__:
        hint = hints[name]
        origin = typing.get_origin(hint)
        if origin is ClassVar:
            continue
        where = f"{cls.__name__}.{name}"
        if origin not in (Col, Key):
            raise DeclarationError(f"{where}: {hint} is not a column.", remedy="Write Key[…] or Col[…].")
        if problem := name_problem(name):
            raise DeclarationError(f"{where}: {problem}.")
        try:
            kind = field_type(typing.get_args(hint)[0])
        except UnsupportedType as error:
            raise DeclarationError(f"{where}: {error}.") from None
        options = cls.__dict__.get(name, ColumnOptions())
        if not isinstance(options, ColumnOptions):
            options = ColumnOptions(default=options)
        if options.precision is not None and kind.kind != "numeric":
            raise DeclarationError(f"{where}: precision is for Decimal columns.")
        if origin is Key and (kind.column_kind not in KEY_KINDS or kind.nullable):
            raise DeclarationError(f"{where}: a key is an int, str, UUID or date, and never None.")
        default = constant_text(options.default)
        if kind.kind == "numeric" and default is not None:
            default = str(default)
        try:
            constant_value(kind.column_kind, default)
        except ValueError as error:
            raise DeclarationError(f"{where}: {error}.") from None
        yield EntityColumn(
            name,
            ColumnType(kind.column_kind, kind.nullable, options.precision, options.scale),
            origin is Key,
            default,
        )
