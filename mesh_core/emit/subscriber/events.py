"""From a record to a typed event, for a service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from mesh_core.contracts import Refusal, TopicDecoder, Unknown
from mesh_core.errors import MeshError
from mesh_core.log.cloudevents import is_binary, structured_from_binary
from mesh_core.log.errors import EnvelopeError
from mesh_core.log.interface import Headers
from mesh_core.log.position import TopicPartition
from mesh_core.model import Event

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


class Reading:
    """Decodes the records of the topics of some event classes, by the same rules as the mesh."""

    def __init__(self, events: Iterable[type[Event]]) -> None:
        self._classes = {event.type: event for event in events}
        by_topic: dict[str, list[type[Event]]] = {}
        for event in self._classes.values():
            by_topic.setdefault(event.topic, []).append(event)
        self._decoders: Mapping[str, TopicDecoder] = {
            topic: TopicDecoder(event.contract for event in found) for topic, found in by_topic.items()
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
        of = self._classes[found.type]
        return Received(
            event=of.model_validate(msgspec.to_builtins(found.data, builtin_types=_AS_THEY_ARE)),
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
