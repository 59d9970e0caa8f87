"""Events: what a service publishes, as classes with a typed payload."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic._internal._model_construction import ModelMetaclass

from mesh_core.model.errors import DeclarationError
from mesh_core.model.foreign import ForeignTopic
from mesh_core.model.types import Field, FieldType, UnsupportedType, model_fields

if TYPE_CHECKING:
    from mesh_core.model.upcasts import UpcastDeclaration

TYPE_PATTERN = re.compile(
    r"(?P<service>[a-z][a-z0-9_]*)\.(?P<entity>[a-z][a-z0-9_]*)\.[a-z][a-z0-9_]*\.v(?P<major>\d+)"
)


def topic_of(service: str) -> str:
    """The topic of a service's events."""
    return f"{service}.events"


def family(event_type: str) -> str:
    """The name of an event type without its major."""
    return event_type.rpartition(".v")[0]


def major(event_type: str) -> int:
    """The major of an event type."""
    return int(event_type.rpartition(".v")[2])


@dataclass(frozen=True, slots=True)
class Contract:
    """The declared type and payload of an event, as plain data."""

    type: str
    fields: tuple[Field, ...]
    doc: str = ""
    foreign: ForeignTopic | None = None
    """Where it is read from records that are no events of the mesh."""

    @property
    def service(self) -> str:
        """The service that publishes it: the first part of the type."""
        return self.type.split(".", 1)[0]

    @property
    def entity(self) -> str:
        """What it is about: the second part of the type."""
        return self.type.split(".", 2)[1]

    @property
    def topic(self) -> str:
        """The topic that it is published on."""
        return self.foreign.name if self.foreign else topic_of(self.service)

    def field_at(self, path: str) -> FieldType | None:
        """The type at a dotted path of the payload, nullable if anything on the way is; None if unknown."""
        current = FieldType("object", fields=self.fields)
        nullable = False
        for name in path.split("."):
            field = current.field(name)
            if field is None:
                return None
            current = field.type
            nullable = nullable or current.nullable or (not field.required and field.default is None)
        return FieldType(
            current.kind, nullable, current.item, current.fields, current.values, current.constraints
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        foreign = {"foreign": self.foreign.to_json()} if self.foreign else {}
        return {"type": self.type, "fields": [field.to_json() for field in self.fields], **foreign}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contract:
        """What `to_json` wrote."""
        foreign = ForeignTopic.from_json(data["foreign"]) if "foreign" in data else None
        return cls(data["type"], tuple(Field.from_json(field) for field in data["fields"]), foreign=foreign)


@dataclass(frozen=True, slots=True)
class EventField:
    """Names a value of an event or of a part of one: `OrderPlaced.address.city`, `Item.price`."""

    owner: type[BaseModel]
    path: str

    def __getattr__(self, name: str) -> EventField:
        path = f"{self.path}.{name}"
        if name.startswith("_") or Contract("", model_fields(self.owner)).field_at(path) is None:
            raise AttributeError(f"{self.owner.__name__} has no field {path}")
        return EventField(self.owner, path)


class _NamedFields(ModelMetaclass):
    """Makes `OrderPlaced.items` name the field, where pydantic would raise AttributeError."""

    if not TYPE_CHECKING:  # else mypy would believe in any attribute

        def __getattr__(cls, name: str) -> Any:  # noqa: N805  # of a metaclass
            fields = cls.__dict__.get("__pydantic_fields__", {})
            if name in fields:
                return EventField(cls, fields[name].alias or name)
            return super().__getattr__(name)


class Part(BaseModel, metaclass=_NamedFields):
    """A part of an event, such as an element of a list."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(BaseModel, metaclass=_NamedFields):
    """An immutable fact. Subclass with `type="<service>.<entity>.<past-tense verb>.v<major>"`.

    Fields are the payload (`data` of the CloudEvent). Unknown fields of a received event are ignored, so a
    producer may add some at any time.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_temporal="iso8601")

    type: ClassVar[str]
    service: ClassVar[str]
    topic: ClassVar[str]
    foreign: ClassVar[ForeignTopic | None] = None
    """The topic of others that it is read from, given as `topic=`."""
    contract: ClassVar[Contract]
    key_fields: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that make the record key, when a publisher is to read it from the payload."""
    upcasts: ClassVar[tuple[Any, ...]] = ()
    """How events of older contracts read as this one: `upcast(OlderEvent, …)` each, given as `upcasts=[…]`."""

    def __init_subclass__(
        cls,
        *,
        type: str = "",  # noqa: A002
        topic: ForeignTopic | None = None,
        upcasts: Iterable[UpcastDeclaration] = (),
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if type and not TYPE_PATTERN.fullmatch(type):
            raise DeclarationError(
                f"{cls.__name__}: the type {type!r} does not read "
                "<service>.<entity>.<past-tense verb>.v<major>.",
                remedy="For example sales.order.placed.v1.",
            )
        if type:
            cls.type = type
            cls.service = type.split(".", 1)[0]
            cls.topic = topic.name if topic else topic_of(cls.service)
        if topic is not None and not topic.tells(type):
            raise DeclarationError(
                f"{cls.__name__}: no record of {topic.name} is an event {type}.",
                remedy="Name it in the topic's types.",
            )
        cls.foreign = topic
        cls.upcasts = tuple(upcasts)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if not getattr(cls, "type", ""):
            return
        try:
            fields = model_fields(cls)
        except UnsupportedType as error:
            raise DeclarationError(
                f"{error}.",
                remedy="Use int, str, Decimal, float, bool, datetime, date, UUID, "
                "a list or a model of these, or one | None.",
            ) from None
        cls.contract = Contract(cls.type, fields, cls.__doc__ or "", cls.foreign)
        missing = [name for name in cls.key_fields if name not in {field.name for field in fields}]
        if missing:
            raise DeclarationError(
                f"{cls.__name__}: key_fields names {missing[0]!r}, which is not a field of it."
            )
        if cls.upcasts:
            from mesh_core.model.upcasts import bind_upcasts  # which knows events

            cls.upcasts = tuple(bind_upcasts(cls, cls.upcasts))
