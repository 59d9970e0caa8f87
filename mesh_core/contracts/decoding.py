"""Reads records: one decoder a topic turns envelope and payload into a struct in one pass.

What is refused depends on the record alone, so that neither batches nor other events can matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Union

import msgspec

from mesh_core.contracts.limits import MAX_DEPTH, MAX_VALUE_BYTES, contains_nul, time_problem, too_deep
from mesh_core.contracts.refusals import Reason, Refusal, Unknown
from mesh_core.contracts.structs import ENVELOPE, MAX_TYPE, NULL, Check, envelope_struct, payload_check
from mesh_core.model.event import TYPE_PATTERN, Contract, family

Impossible = Annotated[str, msgspec.Meta(min_length=1, max_length=0)]

_json = msgspec.json.Decoder(strict=True)
_envelope = msgspec.json.Decoder(
    msgspec.defstruct(
        "Envelope",
        [*ENVELOPE, ("type", Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TYPE)])],
        kw_only=True,
    ),
    strict=True,
)
# With one struct alone, msgspec takes an event without any type for it.
_Nothing = msgspec.defstruct("Nothing", [("nothing", Impossible)], tag_field="type", tag="\0")


class TopicDecoder:
    """Decodes the records of one topic by its contracts.

    `struct_of` gives the struct of each event type: attributes specversion, id, source, type, time (with
    zone), data (a struct of the payload), and subject, workflowid (UUID), sequence, correlationid,
    causationid, tenantid, traceparent, tracestate, which are None where the event has none. Fields of the
    payload have their own names. Where JSON repeats a name in an object, the last one counts.

    `decode` is msgspec's own decoder: fast, but it lets through what only `read` refuses.
    """

    def __init__(self, contracts: Iterable[Contract]) -> None:
        found = {contract.type: contract for contract in contracts}
        self.struct_of: Mapping[str, type[msgspec.Struct]] = {
            name: envelope_struct(contract) for name, contract in found.items()
        }
        self._checks: Mapping[type, Check | None] = {
            self.struct_of[name]: payload_check(contract) for name, contract in found.items()
        }
        self._families = set(map(family, found))
        union: Any = Union[(_Nothing, *self.struct_of.values())]  # built at run time
        # Numbers in free JSON stay exact.
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union, strict=True, float_hook=Decimal)
        self.decode: Callable[[bytes], Any] = decoder.decode

    def read(self, value: bytes | None) -> Any:
        """The event as its struct, with `sequence` an int or None; or a Refusal, or an Unknown."""
        if value is None:
            return Refusal("null_payload", "The record has no value.")
        if _is_too_much(value):
            return self.explain(value)
        try:
            event = self.decode(value)
        except (msgspec.MsgspecError, ValueError):
            return self.explain(value)
        return self._judged(value, event)

    def is_event(self, value: bytes) -> bool:
        """Whether the value is a whole event of a contract, be it refused or not."""
        try:
            self.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        return True

    def read_events(self, values: Sequence[bytes | None]) -> list[Any] | None:
        """What `read` gives for each value if all are whole events of a contract, be they refused or not; else None."""
        try:
            events = list(map(self.decode, values))  # type: ignore[arg-type]  # None raises TypeError
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            return None
        checks = self._checks
        for n, event in enumerate(events):
            value = values[n]
            assert value is not None
            if len(value) > 2 * MAX_DEPTH and _is_too_much(value):
                events[n] = self.explain(value)
            elif (
                b"\\" in value
                or not value.isascii()
                or event.sequence is not None
                or checks[type(event)] is not None
                or not 1 < event.time.year < 9999
            ):
                events[n] = self._judged(value, event)
        return events

    def _judged(self, value: bytes, event: Any) -> Any:
        """A decoded event, or why it is refused all the same."""
        if b"\\" in value and contains_nul(value):
            return self.explain(value)
        if not value.isascii() and not _is_utf8(value):
            return self.explain(value)
        if not 1 < event.time.year < 9999 and time_problem(event.time):
            return self.explain(value)
        if type(event.sequence) is str:
            event.sequence = int(event.sequence)
        check = self._checks[type(event)]
        if check is not None and (problem := check(event.data)) is not None:
            reason: Reason = "wrong_type" if problem.endswith(NULL) else "out_of_range"
            return _refusal(event, reason, f"$.data{problem}")
        return event

    def explain(self, value: bytes | None) -> Refusal | Unknown:
        """Why `read` found no event of a contract in `value`."""
        if value is None:
            return Refusal("null_payload", "The record has no value.")
        parsed = _parse(value)
        if isinstance(parsed, Refusal):
            return parsed
        facts = {name: _text(parsed.get(name)) for name in ("type", "id", "subject")}

        def refused(reason: Reason, detail: str) -> Refusal:
            return Refusal(reason, detail, facts["type"], facts["id"], facts["subject"])

        if contains_nul(value):
            return refused("nul_character", "The event holds the character U+0000.")
        if parsed.get("specversion") != "1.0":
            return refused("not_a_cloudevent", '$.specversion is not "1.0".')
        try:
            envelope: Any = _envelope.decode(value)
        except msgspec.ValidationError as error:
            return refused(_reason(str(error)), str(error))
        if problem := time_problem(envelope.time):
            return refused("out_of_range", f"$.time: {problem}")
        kind: str = envelope.type
        if kind in self.struct_of:
            return self._explain_payload(value, envelope)
        if family(kind) in self._families:
            detail = (
                f"No contract of {kind} is known, only of other versions: declare it, with an upcaster if it is older, "
                "and deploy; or let the publisher go back."
            )
            return _refusal(envelope, "unknown_version", detail)
        return _unknown(envelope)

    def _explain_payload(self, value: bytes, envelope: Any) -> Refusal:
        try:
            self.decode(value)
        except (msgspec.MsgspecError, ValueError) as error:
            return _refusal(envelope, _reason(str(error)), str(error))
        raise AssertionError("explain is for what read did not take")


def _is_too_much(value: bytes) -> bool:
    # Only what is longer can be nested too deep, or be too long.
    return len(value) > 2 * MAX_DEPTH and (len(value) > MAX_VALUE_BYTES or too_deep(value))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse(value: bytes) -> dict[str, Any] | Refusal:
    """The JSON object in `value` with every number as 0, or why there is none."""
    if len(value) > MAX_VALUE_BYTES:
        return Refusal("too_large", f"{len(value)} bytes; at most {MAX_VALUE_BYTES} are taken.")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Refusal("not_utf8", f"{error}.")
    if too_deep(value):
        return Refusal("too_deep", f"Objects and arrays nest deeper than {MAX_DEPTH}.")
    try:
        parsed = json.loads(text, parse_int=_zero, parse_float=_zero, parse_constant=_no_constant)
    except ValueError as error:
        return Refusal("not_json", f"{error}.")
    if not isinstance(parsed, dict):
        return Refusal("not_a_cloudevent", "The value is not a JSON object.")
    if re.search("[\ud800-\udfff]", json.dumps(parsed, ensure_ascii=False)):
        return Refusal("surrogate", "A text has half of a surrogate pair.")
    try:
        _json.decode(value)
    except (msgspec.ValidationError, UnicodeDecodeError):
        pass
    except msgspec.DecodeError as error:
        return Refusal("not_json", f"{error}.")
    return parsed


def _zero(text: str) -> int:
    return 0


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _reason(message: str) -> Reason:
    if "missing required field" in message:
        return "missing_field"
    if "timezone component" in message:
        return "zone_missing"
    if "out of range" in message or re.search(r"Expected `\w+` (<|>|of length)", message):
        return "out_of_range"
    if "Expected `" in message and "matching regex" not in message:
        return "wrong_type"
    return "wrong_value"


def _text(value: Any) -> str | None:
    return value.replace("\0", "\ufffd")[:512] if isinstance(value, str) else None


def _refusal(envelope: Any, reason: Reason, detail: str) -> Refusal:
    """Of an event whose envelope is as it should be."""
    return Refusal(reason, detail, envelope.type, envelope.id, envelope.subject, envelope)


def _unknown(envelope: Any) -> Unknown:
    known = TYPE_PATTERN.fullmatch(envelope.type)
    return Unknown(
        type=envelope.type,
        service=known and known["service"],
        entity=known and known["entity"],
        sequence=None if envelope.sequence is None else int(envelope.sequence),
        **{name: getattr(envelope, name) for name, *_ in ENVELOPE if name not in ("specversion", "sequence")},
    )
