"""The CloudEvent of a typed event, with the ids of what the running code belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mesh_core.errors import UsageError
from mesh_core.log import EnvelopeError, Outgoing
from mesh_core.log.cloudevents import (
    STRUCTURED_HEADERS,
    checked,
    encode_binary,
    encode_checked,
    event_time,
)
from mesh_core.model import Event
from mesh_core.model.event import topic_of
from mesh_core.model.identifiers import MAX_KEY_BYTES, key_text, uuid7_text
from mesh_core.telemetry import current

_SERVICE = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_trace_context = TraceContextTextMapPropagator()


def envelope_of(
    event: Event,
    *,
    source: str,
    key: str | None = None,
    workflow_id: UUID | str | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    tenant_id: str | None = None,
    time: datetime | None = None,
    sequence: int | None = None,
    id: str | UUID | None = None,  # noqa: A002 - the name that CloudEvents gives it
) -> dict[str, Any]:
    """Attributes and `data`, None where there is none; what is not given is what `mesh_core.emit.bound` bound.

    Raises EnvelopeError where there is no key, or another than `key_fields` say.
    """
    own = key_text([getattr(event, name) for name in event.key_fields]) if event.key_fields else None
    if key is None and own is None:
        raise EnvelopeError(
            f"{type(event).__name__} needs a key.", remedy="Give key=…, or declare key_fields in the class."
        )
    if None not in (key, own) and key != own:
        raise EnvelopeError(
            f"The key {key!r} is not that of the {type(event).__name__}, which is {own!r} by key_fields.",
            remedy="Give no key.",
        )
    key = key if own is None else own
    ids, identifier = current(), str(id) if id else uuid7_text()
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": identifier,
        "source": source,
        "type": event.type,
        "subject": key,
        "time": time or datetime.now(UTC),
        "datacontenttype": "application/json",
        "workflowid": workflow_id or ids.workflow_id,
        "correlationid": correlation_id or ids.correlation_id or identifier,
        "causationid": causation_id or ids.causation_id,
        "tenantid": tenant_id or ids.tenant_id,
        "sequence": sequence,
    }
    _trace_context.inject(envelope)
    if ids.traceparent is not None:
        envelope.setdefault("traceparent", ids.traceparent)
    envelope["data"] = event.model_dump(by_alias=True)
    return envelope


def check_is_event(event: object, otherwise: str = "") -> None:
    """Raises UsageError for what is no Event; `otherwise` says what else could be done with it."""
    if not isinstance(event, Event):
        found = f"the class {event.__name__}" if isinstance(event, type) else f"a {type(event).__name__}"
        remedy = f"Make one of its class. {otherwise}".strip()
        raise UsageError(f"An Event is expected, not {found}.", remedy=remedy)


def record_of(envelope: Mapping[str, Any], *, binary: bool = False) -> Outgoing:
    """The record of a CloudEvent; `time` is now if there is none. Raises EnvelopeError."""
    event = checked(envelope)
    service = event["type"].split(".", 1)[0]
    if not _SERVICE.fullmatch(service):
        raise EnvelopeError(f"The type {event['type']!r} does not begin with the name of a service.")
    key = _utf8(event["subject"])
    if len(key) > MAX_KEY_BYTES:
        raise EnvelopeError(f"The subject has {len(key)} bytes; a key has at most {MAX_KEY_BYTES}.")
    headers, value = encode_binary(event) if binary else (STRUCTURED_HEADERS, encode_checked(event))
    return Outgoing(topic_of(service), key, value, int(event_time(event).timestamp() * 1000), headers)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EnvelopeError("The subject has a lone surrogate, which is not text.") from error
