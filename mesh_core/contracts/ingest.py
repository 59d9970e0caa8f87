"""Events as others hand them over: checked against CloudEvents, and against the contract of their type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import msgspec

from mesh_core.contracts.decoding import TopicDecoder
from mesh_core.contracts.refusals import Reason, Refusal, Unknown
from mesh_core.contracts.structs import ENVELOPE
from mesh_core.model.event import TYPE_PATTERN, Contract
from mesh_core.model.identifiers import MAX_KEY_BYTES

_LONGEST = 999_000
"""Bytes of an event; with its key and headers, a producer sends a million at most."""
_NAME = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_FRACTION = re.compile(rb"-?[0-9]+[.eE].*")
_KNOWN = frozenset(["datacontenttype", "type", *(name for name, *_ in ENVELOPE)])
_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_string = msgspec.json.Decoder(str)

Problem = Callable[[str, bytes, Any], tuple[str, str] | None]
"""(reason, detail) why what a topic's decoder found cannot be applied under a key, or None."""


class Accepted(NamedTuple):
    """An event that keeps its contract, and the record that it becomes; `timestamp_ms` is since 1970."""

    id: str
    source: str
    service: str
    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int


class Contracts:
    """The contracts that events are checked by, with a decoder for each topic, and the rules beyond them."""

    def __init__(
        self, contracts: Iterable[Contract], decoders: Mapping[str, TopicDecoder], problem: Problem
    ) -> None:
        self._services = {_encoder.encode(contract.type): contract.service for contract in contracts}
        self._decoders, self._problem = decoders, problem

    def check(self, value: bytes, defaults: Mapping[str, str]) -> Accepted | Refusal:
        """Whether a structured event may be published, and as what record.

        Of `defaults` it takes the attributes that it has not; `time` is now where neither says it.
        """
        try:
            attributes = _attributes.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Refusal("not_json", f"The event is not a JSON object: {error}.")
        if problem := _envelope_problem(attributes):
            return Refusal("not_a_cloudevent", problem, event_id=_text(attributes, "id"))
        if "type" not in attributes:
            return Refusal("not_a_cloudevent", "$.type is missing.", event_id=_text(attributes, "id"))
        kind = bytes(attributes["type"])
        service = self._services.get(kind) or _service_in(kind)
        if service is None:
            return Refusal(
                "not_a_cloudevent",
                "$.type does not read <service>.<entity>.<past-tense verb>.v<major>.",
                event_id=_text(attributes, "id"),
            )
        missing = {name: text for name, text in defaults.items() if name not in attributes}
        if "time" not in attributes:
            missing.setdefault("time", datetime.now(UTC).isoformat().replace("+00:00", "Z"))
        if missing:
            value = value.rstrip()[:-1] + b"," + _encoder.encode(missing)[1:]
        topic = f"{service}.events"
        decoder = self._decoders.get(topic)
        found: Any = None if decoder is None else decoder.read(value)
        if isinstance(found, Refusal):
            return found
        if found is None or isinstance(found, Unknown):
            return Refusal(
                "unknown_type",
                f"$.type: no contract of {_string.decode(kind)} is known; one just registered is as soon as its "
                "Mesh-Position, sent as Mesh-Min-Position, is reached.",
                event_type=_string.decode(kind),
                event_id=_text(attributes, "id"),
            )
        if found.subject is None or not found.subject:
            return _refused(
                found, "missing_field", "$.subject is missing: it is the key of what the event is of."
            )
        if len(value) > _LONGEST:
            return _refused(found, "too_large", f"{len(value):,} bytes; at most {_LONGEST:,} are published.")
        key = found.subject.encode()
        if len(key) > MAX_KEY_BYTES:
            return _refused(
                found, "out_of_range", f"$.subject has {len(key)} bytes; at most {MAX_KEY_BYTES}."
            )
        if (why := self._problem(topic, key, found)) is not None:
            return _refused(found, cast(Reason, why[0]), why[1])
        return Accepted(
            found.id, found.source, service, topic, key, value, int(found.time.timestamp() * 1000)
        )


def _refused(found: object, reason: Reason, detail: str) -> Refusal:
    return Refusal(
        reason,
        detail,
        getattr(found, "type", None),
        getattr(found, "id", None),
        getattr(found, "subject", None),
    )


def _text(attributes: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """An attribute that is text."""
    try:
        return _string.decode(attributes[name])
    except (KeyError, msgspec.DecodeError):
        return None


def _envelope_problem(attributes: Mapping[str, msgspec.Raw]) -> str | None:
    """What is not CloudEvents 1.0 about attributes that the contract does not look at."""
    for name, raw in attributes.items():
        if name in ("data", "data_base64"):
            continue
        if name not in _KNOWN and _NAME.fullmatch(name) is None:
            return f"$.{name[:80]} is not the name of a CloudEvents attribute: small letters and digits."
        value = bytes(raw)
        if value[:1] != b'"' and (value[:1] in (b"{", b"[") or _FRACTION.fullmatch(value)):
            return f"$.{name} is neither text, integer nor boolean."
    if "data" in attributes and "data_base64" in attributes:
        return "The event has both $.data and $.data_base64."
    return None


def _service_in(kind: bytes) -> str | None:
    """The service that an event type names, which is JSON; None if it is no event type."""
    try:
        known = TYPE_PATTERN.fullmatch(_string.decode(kind))
    except msgspec.DecodeError:
        return None
    return known and known["service"]
