"""Folds: what an event does to a row of an entity.

An event is a pair of patches, for a row that is absent and for one that is present. `upsert` creates or
changes, `patch` changes only what is present, `delete` resets everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, cast

from mesh_core.model.errors import DeclarationError
from mesh_core.model.event import Contract, Event, EventField

OpKind = Literal["set", "add", "max", "min"]
Scope = Literal["data", "element", "envelope", "constant"]
ENVELOPE_FIELDS = {"time": "timestamptz", "id": "text", "workflowid": "uuid", "source": "text"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a path of the payload or the `each` element, the envelope, or a constant."""

    scope: Scope
    value: Any

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {self.scope: self.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        """What `to_json` wrote."""
        ((scope, value),) = data.items()
        return cls(cast(Scope, scope), value)


@dataclass(frozen=True, slots=True)
class Operation:
    """What happens to one column: set, add, max or min with the value of `source`.

    `window`: an add without `sequence` recognises a repeated event id within this many offsets.
    """

    column: str
    kind: OpKind
    source: Source
    window: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        data: dict[str, Any] = {"column": self.column, "kind": self.kind, "source": self.source.to_json()}
        return data if self.window is None else {**data, "window": self.window}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Operation:
        """What `to_json` wrote."""
        return cls(data["column"], data["kind"], Source.from_json(data["source"]), data.get("window"))


@dataclass(frozen=True, slots=True)
class Fold:
    """What events of one contract do to an entity. `keys` in the order of the entity's key columns."""

    kind: Literal["upsert", "patch", "delete"]
    contract: Contract
    keys: tuple[Source, ...]
    operations: tuple[Operation, ...]
    each: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "kind": self.kind,
            "contract": self.contract.to_json(),
            "keys": [key.to_json() for key in self.keys],
            "operations": [operation.to_json() for operation in self.operations],
            "each": self.each,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fold:
        """What `to_json` wrote."""
        return cls(
            data["kind"],
            Contract.from_json(data["contract"]),
            tuple(Source.from_json(key) for key in data["keys"]),
            tuple(Operation.from_json(operation) for operation in data["operations"]),
            data["each"],
        )


@dataclass(frozen=True, slots=True)
class FoldDeclaration:
    """A fold as written, before it is bound to its entity."""

    kind: Literal["upsert", "patch", "delete"]
    event: type[Event]
    values: Mapping[str, Any]
    each: EventField | None = None


@dataclass(frozen=True, slots=True)
class OperationDeclaration:
    """An operation as written, before it is bound to its column."""

    kind: OpKind
    value: Any
    window: int | None = None


def upsert(event: type[Event], /, *, each: list[Any] | None = None, **values: Any) -> FoldDeclaration:
    """Create the row, or change it. Columns take the event's fields of the same name, and `values` besides.

    `each` names a list of the event: one row an element, replacing the rows that the same record key made.
    """
    return FoldDeclaration("upsert", event, values, cast("EventField | None", each))


def patch(event: type[Event], /, **values: Any) -> FoldDeclaration:
    """Change the row if it is present; count the event as ignored if not.

    With no `values`, columns take the event's fields of the same name.
    """
    return FoldDeclaration("patch", event, values)


def delete(event: type[Event], /, **keys: Any) -> FoldDeclaration:
    """Remove the row (with `each`, all rows of the record key). A re-created key starts clean."""
    return FoldDeclaration("delete", event, keys)


def add(value: int | Decimal, *, window: int | None = None) -> Any:
    """Add the event's value to the column, from 0.

    The event must carry `sequence`, so that a redelivery adds nothing; or declare `window`, the number of
    offsets within which a repeated event id is recognised.
    """
    return OperationDeclaration("add", value, window)


def max_(value: Any) -> Any:
    """Keep the greatest value seen."""
    return OperationDeclaration("max", value)


def min_(value: Any) -> Any:
    """Keep the least value seen."""
    return OperationDeclaration("min", value)


@dataclass(frozen=True, slots=True)
class EnvelopeField:
    """An attribute of the CloudEvent around the payload."""

    name: str


event_time = cast(datetime, EnvelopeField("time"))
event_id = cast(str, EnvelopeField("id"))
event_source = cast(str, EnvelopeField("source"))
workflow_id = cast(Any, EnvelopeField("workflowid"))


def source_of(value: Any) -> Source:
    """The Source of a value as written. Raises DeclarationError for what is neither field nor plain value."""
    if isinstance(value, EnvelopeField):
        return Source("envelope", value.name)
    if isinstance(value, EventField):
        return Source("data" if issubclass(value.owner, Event) else "element", value.path)
    if value is None or isinstance(value, bool | int | str | float):
        return Source("constant", value)
    if isinstance(value, Decimal):
        return Source("constant", str(value))
    raise DeclarationError(f"{value!r} is neither a field of the event nor a plain value.")
