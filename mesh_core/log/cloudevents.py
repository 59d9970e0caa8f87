"""The CloudEvents 1.0 envelope on Kafka: written as structured JSON, read as structured or binary.

Standards: CloudEvents 1.0.2 with its JSON event format and its Kafka protocol binding, RFC 3339 for times.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from mesh_core.log.errors import EnvelopeError
from mesh_core.log.interface import Headers

STRUCTURED_HEADERS: Headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
"""The one header of a record whose value is a structured CloudEvent."""

REQUIRED = ("id", "source", "type", "subject")
"""What every event of the mesh names, beside `specversion`; the subject is the key of the entity."""

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_JSON_TYPE = re.compile(r"[^;]*[/+]json\s*(;.*)?", re.IGNORECASE)
_SEQUENCE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_encoder = msgspec.json.Encoder(decimal_format="number")


def encode_structured(event: Mapping[str, Any]) -> bytes:
    """The event as structured JSON; Decimals become numbers, digit for digit.

    Attributes that are None are left out. Raises EnvelopeError as `checked` does, or if the data cannot be
    JSON.
    """
    return encode_checked(checked(event))


def encode_checked(event: Mapping[str, Any]) -> bytes:
    """What `encode_structured` does, for what `checked` answered."""
    return _encoded(event, event)


def encode_binary(event: Mapping[str, Any]) -> tuple[Headers, bytes]:
    """What `checked` answered, in binary mode: attributes as headers, and the data as JSON. Raises EnvelopeError."""
    if "data_base64" in event:
        raise EnvelopeError(
            f"The data of {_shown(event)} is not JSON, so it is published in structured mode alone."
        )
    named = {"datacontenttype": "application/json"} | {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in event.items()
        if name != "data"
    }
    try:
        headers = tuple(
            ("content-type" if name == "datacontenttype" else f"ce_{name}", text.encode())
            for name, text in named.items()
        )
    except UnicodeEncodeError as error:
        raise EnvelopeError(
            f"An attribute of {_shown(event)} has a lone surrogate, which is not text."
        ) from error
    return headers, _encoded(event, event.get("data"))


def _encoded(event: Mapping[str, Any], value: Any) -> bytes:
    try:
        _refuse_non_numbers(event.get("data"))
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeError(f"The data of {_shown(event)} cannot be written as JSON: {error}") from error


def checked(event: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes in the form that is written: no None, `time` in UTC with a Z (now, if there is none).

    Raises EnvelopeError, naming attribute and event, for what is not CloudEvents 1.0, and for what the mesh
    asks beyond it: a subject, a time with a zone, a workflowid that is a UUID, an integer sequence.
    """
    if event.get("specversion") != "1.0":
        raise EnvelopeError(f"The specversion of {_shown(event)} is {event.get('specversion')!r}, not '1.0'.")
    for name in REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise EnvelopeError(f"The {name} of {_shown(event)} is missing or not a text.")
    if event.get("data") is not None and event.get("data_base64") is not None:
        raise EnvelopeError(f"{_shown(event)} has both data and data_base64.")
    result: dict[str, Any] = {}
    for name, value in event.items():
        if value is None and name != "data":
            continue
        if name in ("data", "data_base64"):
            result[name] = value
            continue
        if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
            raise EnvelopeError(f"{name!r} of {_shown(event)} is not the name of a CloudEvents attribute.")
        result[name] = _attribute(event, name, value)
    result.setdefault("time", _rfc3339(datetime.now(UTC)))
    return result


def _attribute(event: Mapping[str, Any], name: str, value: Any) -> str | int | bool:
    if name == "time":
        return _rfc3339(event_time(event))
    if name == "workflowid":
        try:
            return str(UUID(str(value)))
        except ValueError as error:
            raise EnvelopeError(f"The workflowid of {_shown(event)} is not a UUID: {value!r}.") from error
    if name == "sequence" and (isinstance(value, bool) or not isinstance(value, int)):
        raise EnvelopeError(f"The sequence of {_shown(event)} is not an integer: {value!r}.")
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, (str, int, bool)):
        raise EnvelopeError(f"The {name} of {_shown(event)} is neither text, integer nor boolean.")
    return value


def event_time(event: Mapping[str, Any]) -> datetime:
    """When the event happened, in UTC. Raises EnvelopeError if `time` is no RFC 3339 time with a zone."""
    value = event.get("time")
    try:
        time = msgspec.convert(value, datetime) if isinstance(value, str) else value
    except msgspec.ValidationError as error:
        raise EnvelopeError(f"The time of {_shown(event)} is not an RFC 3339 time: {value!r}.") from error
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise EnvelopeError(f"The time of {_shown(event)} has no zone: {value!r}.")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise EnvelopeError(f"The time of {_shown(event)} is out of range: {value!r}.") from error


def is_binary(headers: Headers) -> bool:
    """Whether a record carries its attributes in headers, `ce_…`, and only the data in its value."""
    return any(name == "ce_specversion" for name, _ in headers)


def structured_from_binary(headers: Headers, value: bytes | None) -> bytes:
    """A binary-mode record as the structured JSON that says the same.

    JSON data is kept byte for byte, text becomes a JSON string, anything else `data_base64`. What the
    attributes say is not checked here. Raises EnvelopeError if headers are not UTF-8 or the data is not what
    its content type says.
    """
    event: dict[str, Any] = {}
    try:
        for name, raw in headers:
            if name.startswith("ce_") and name not in ("ce_data", "ce_data_base64"):
                event[name[3:]] = raw.decode()
            elif name.lower() == "content-type":
                event["datacontenttype"] = raw.decode()
    except (UnicodeDecodeError, AttributeError) as error:
        raise EnvelopeError(f"A header of the event is not UTF-8 text: {error}") from error
    if _SEQUENCE.fullmatch(event.get("sequence", "")):
        event["sequence"] = int(event["sequence"])
    if value is not None:
        event |= _data(event.get("datacontenttype", "application/json"), value)
    return _encoder.encode(event)


def _data(content_type: str, value: bytes) -> dict[str, Any]:
    try:
        if _JSON_TYPE.fullmatch(content_type):
            msgspec.json.decode(value, type=msgspec.Raw)
            return {"data": msgspec.Raw(value)}
        if content_type.lower().startswith("text/"):
            return {"data": value.decode()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvelopeError(f"The data of the event is not {content_type}: {error}") from error
    return {"data_base64": base64.b64encode(value).decode()}


def _refuse_non_numbers(value: Any) -> None:
    # JSON has no NaN and no infinity; the encoder would write null, or what is not JSON.
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number of JSON")
    elif isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not a number of JSON")
    elif isinstance(value, Mapping):
        for item in value.values():
            _refuse_non_numbers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_non_numbers(item)


def _rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _shown(event: Mapping[str, Any]) -> str:
    name = event.get("id")
    return f"event {name[:80]!r}" if isinstance(name, str) and name else "the event"
