"""From a record to a typed event, for a service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Generic, TypeVar
from uuid import UUID

import msgspec
from pydantic import ValidationError

from mesh_core.contracts import Refusal, TopicDecoder, Unknown
from mesh_core.errors import MeshError
from mesh_core.log.cloudevents import is_binary, structured_from_binary
from mesh_core.log.errors import EnvelopeError
from mesh_core.log.interface import Headers
from mesh_core.log.position import TopicPartition
from mesh_core.model import Contract, Event
from mesh_core.model.upcasts import Upcast

E_co = TypeVar("E_co", bound=Event, covariant=True)
_AS_THEY_ARE = (Decimal, datetime, date, UUID)


class EventRefused(MeshError):
    """A handler cannot do anything with an event: it is kept as a dead letter, and what follows of its key waits."""


@dataclass(frozen=True, slots=True)
class Received(Generic[E_co]):
    """An event as a handler gets it; `offset` is where it is in `partition`."""

    event: E_co
    id: str
    source: str
    key: str
    time: datetime
    sequence: int | None
    workflow_id: UUID | None
    correlation_id: str | None
    causation_id: str | None
    tenant_id: str | None
    traceparent: str | None
    partition: TopicPartition
    offset: int


def _older(event: type[Event], then: Sequence[Upcast]) -> Iterator[Sequence[Upcast]]:
    """The ways from each older event to this one, and on."""
    upcasts: tuple[Upcast, ...] = event.upcasts
    for each in upcasts:
        yield (each, *then)
        yield from _older(each.event, (each, *then))


class Reading:
    """Decodes the records of the topics of some event classes, by the same rules as the mesh.

    Events of older contracts are those that they are upcast to.
    """

    def __init__(self, events: Iterable[type[Event]]) -> None:
        self._classes = {event.type: event for event in events}
        self._upcasts: dict[str, Sequence[Upcast]] = {}
        by_topic: dict[str, list[Contract]] = {}
        for event in self._classes.values():
            by_topic.setdefault(event.topic, []).append(event.contract)
            for ways in _older(event, ()):
                if (older := ways[0].event).type not in self._classes:
                    self._upcasts[older.type] = ways
                    by_topic[event.topic].append(older.contract)
        self._decoders: Mapping[str, TopicDecoder] = {
            topic: TopicDecoder(found) for topic, found in by_topic.items()
        }

    @property
    def topics(self) -> list[str]:
        """The topics of the events, sorted."""
        return sorted(self._decoders)

    def read(
        self, partition: TopicPartition, offset: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Received[Event] | Refusal | Unknown:
        """The typed event of a record, why it is refused, or that nobody asked for its type."""
        decoder = self._decoders[partition.topic]
        if value is not None and is_binary(headers) and not decoder.is_event(value):
            try:
                value = structured_from_binary(headers, value)
            except EnvelopeError as error:
                return Refusal("not_a_cloudevent", str(error))
        found = decoder.read(value)
        if isinstance(found, Refusal | Unknown):
            return found
        payload = msgspec.to_builtins(found.data, builtin_types=_AS_THEY_ARE)
        event_type = found.type
        for way in self._upcasts.get(event_type, ()):
            payload, event_type = way.payload(payload), way.newer
        try:
            event = self._classes[event_type].model_validate(payload)
        except ValidationError as error:  # by a validator of the class's own
            first = error.errors()[0]
            detail = f"$.data.{'.'.join(map(str, first['loc']))}: {first['msg']}"
            return Refusal("wrong_value", detail, found.type, found.id, found.subject)
        return Received(
            event=event,
            id=found.id,
            source=found.source,
            key=found.subject or (key or b"").decode("utf-8", "replace"),
            time=found.time,
            sequence=found.sequence,
            workflow_id=found.workflowid,
            correlation_id=found.correlationid,
            causation_id=found.causationid,
            tenant_id=found.tenantid,
            traceparent=found.traceparent,
            partition=partition,
            offset=offset,
        )
