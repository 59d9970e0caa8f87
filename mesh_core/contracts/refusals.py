"""What reading a record can come to, when it is not an event that a contract describes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

Reason = Literal[
    "null_payload",
    "too_large",
    "not_utf8",
    "not_json",
    "too_deep",
    "surrogate",
    "nul_character",
    "not_a_cloudevent",
    "unknown_type",
    "unknown_version",
    "missing_field",
    "wrong_type",
    "wrong_value",
    "out_of_range",
    "zone_missing",
    "key_mismatch",
    "key_too_long",
    "does_not_fit",
    "missing_sequence",
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record cannot be read. Depends on its bytes and the contracts alone.

    `detail` names the path and the cause; type, id and subject are there as far as they could be read. `envelope` has
    all attributes (those of Unknown and more), if nothing but the contract stands against the event; it is the same
    whatever the contract says.
    """

    reason: Reason
    detail: str
    event_type: str | None = None
    event_id: str | None = None
    subject: str | None = None
    envelope: Any = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The envelope of a valid CloudEvent whose type no contract describes.

    `service` and `entity` are None if the type does not read `<service>.<entity>.<verb>.v<major>`.
    """

    type: str
    id: str
    source: str
    subject: str | None
    time: datetime
    workflowid: UUID | None
    sequence: int | None
    correlationid: str | None
    causationid: str | None
    tenantid: str | None
    traceparent: str | None
    tracestate: str | None
    service: str | None
    entity: str | None
