"""Records of foreign topics as events: what a ForeignTopic says, done.

Whether a record can be translated depends on it alone. Numbers stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from mesh_core.contracts.limits import MAX_VALUE_BYTES, too_deep
from mesh_core.contracts.refusals import Refusal
from mesh_core.model.foreign import HEADER, ForeignTopic, Unit
from mesh_core.model.identifiers import key_text

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS: Mapping[Unit, Decimal] = {
    "s": Decimal(1_000_000),
    "ms": Decimal(1_000),
    "us": Decimal(1),
    "ns": Decimal("0.001"),
}
_TRUNCATED = "t"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A record of a foreign topic: `timestamp` is in milliseconds since 1970."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    partition: int
    offset: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Translated:
    """The key of the event, as far as the record tells; and the event as structured JSON, or why it cannot be read as one.

    Neither, where the record says nothing.
    """

    key: bytes | None
    value: bytes | None = None
    refusal: Refusal | None = None


class _Untranslatable(Exception):  # it becomes a Refusal
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)  # type: ignore[arg-type]  # one of them


def translate(topic: ForeignTopic, record: Foreign) -> Translated:
    """The event that a record is, or why it cannot be read as one."""
    key = record_key(topic, record.key)
    try:
        value = None if record.value is None else _parsed(record.value)
        if value is None:
            return Translated(key)  # such as a tombstone after a delete
        found = _Record(topic, record, value)
        event_type = _rows_type(found) if topic.form == "rows" else _json_type(found)
        if event_type is None:
            return Translated(key)
        data = _row(found) if topic.form == "rows" else None
        if topic.key:
            key = _key(found, data)
        if key is None:
            raise _Untranslatable("missing_field", "The record has no key.")
        return Translated(key, _event(found, event_type, key, _data(found) if data is None else data))
    except _Untranslatable as error:
        return Translated(key, refusal=error.refusal)


def record_key(topic: ForeignTopic, key: bytes | None) -> bytes | None:
    """The key that a record key means: JSON text and whole numbers are the text alone; a row's columns are joined.

    Any other is as it is.
    """
    if key is None:
        return None
    try:
        value = _unwrapped(_decoder.decode(key))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError):
        return key
    if isinstance(value, dict):
        names = topic.key if topic.form == "rows" else tuple(value)[:1] if len(value) == 1 else ()
        parts = [value.get(name) for name in names]
    else:
        parts = [value]
    if not parts or not all(isinstance(part, str | int) and not isinstance(part, bool) for part in parts):
        return key
    return key_text(parts).encode("utf-8", "surrogatepass")


def _event(found: _Record, event_type: str, key: bytes, data: Any) -> bytes:
    topic, record = found.topic, found.record
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": found.text(topic.id, "id") if topic.id else f"{topic.name}/{record.partition}/{record.offset}",
        "source": f"/{topic.name}",
        "type": event_type,
        "subject": key.decode("utf-8", "replace"),
        "time": found.time(),
        "data": found.with_times(data),
    }
    if topic.workflow and (workflow := found.at(topic.workflow)) is not None:
        event["workflowid"] = workflow
    if topic.sequence and (sequence := found.at(topic.sequence)) is not None:
        event["sequence"] = sequence
    return _encoder.encode(event)


def _parsed(value: bytes) -> Any:
    if len(value) > MAX_VALUE_BYTES:
        raise _Untranslatable("too_large", f"{len(value)} bytes; at most {MAX_VALUE_BYTES} are taken.")
    if too_deep(value):
        raise _Untranslatable("too_deep", "Objects and arrays nest too deep.")
    try:
        return _unwrapped(_decoder.decode(value))
    except UnicodeDecodeError as error:
        raise _Untranslatable("not_utf8", f"{error}.") from None
    except (msgspec.DecodeError, RecursionError, ArithmeticError) as error:
        raise _Untranslatable("not_json", f"{error}.") from None


def _unwrapped(value: Any) -> Any:
    """What Kafka Connect's JSON converter has beside its schema."""
    if isinstance(value, dict) and value.keys() == {"schema", "payload"}:
        return value["payload"]
    return value


class _Record:
    def __init__(self, topic: ForeignTopic, record: Foreign, value: Any) -> None:
        self.topic, self.record, self.value = topic, record, value

    def at(self, place: str) -> Any:
        """What is at a place, or None."""
        if place.startswith(HEADER):
            name = place[len(HEADER) :]
            raw = next((value for key, value in self.record.headers if key == name), None)
            return None if raw is None else _header(raw)
        return _within(self.value, place)

    def text(self, place: str, what: str) -> str:
        """The text, or whole number as such, at a place. Raises _Untranslatable where there is none."""
        value = self.at(place)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is None:
            raise _Untranslatable(
                "missing_field", f"There is nothing at {place}, where {self.topic.name} has the {what}."
            )
        if not isinstance(value, str):
            raise _Untranslatable("wrong_type", f"What is at {place} is neither text nor whole number.")
        return value

    def time(self) -> Any:
        """When it happened, as RFC 3339."""
        if self.topic.form == "rows":
            of_source, of_change = _within(self.value, "source.ts_ms"), _within(self.value, "ts_ms")
            return _time(of_source or of_change or self.record.timestamp, "ms", "ts_ms")
        if self.topic.time is None:
            return _time(self.record.timestamp, "ms", "time")
        value = self.at(self.topic.time)
        if value is None:
            raise _Untranslatable(
                "missing_field",
                f"There is nothing at {self.topic.time}, where {self.topic.name} has the time.",
            )
        return _time(value, dict(self.topic.units).get("time", "ms"), self.topic.time)

    def with_times(self, data: Any) -> Any:
        """The payload with times and dates in place of the numbers that count them."""
        units = {name: unit for name, unit in self.topic.units if name != "time"}
        if not units or not isinstance(data, dict):
            return data
        return {
            name: value if value is None or name not in units else _time(value, units[name], name)
            for name, value in data.items()
        }


def _json_type(found: _Record) -> str | None:
    types = dict(found.topic.types)
    if found.topic.type is None:
        return types[""]
    said = found.text(found.topic.type, "type")
    if types and said not in types and said not in types.values():
        return None
    return types.get(said, said)


def _data(found: _Record) -> Any:
    topic = found.topic
    data = found.value if topic.data is None else found.at(topic.data)
    if topic.data is None and isinstance(data, str):  # an outbox payload that was not expanded
        data = _parsed(data.encode("utf-8", "surrogatepass"))
    if data is None:
        raise _Untranslatable(
            "missing_field", f"There is nothing at {topic.data}, where {topic.name} has the payload."
        )
    return data


def _rows_type(found: _Record) -> str | None:
    op = _within(found.value, "op")
    if not isinstance(op, str):
        raise _Untranslatable("wrong_type", "The value is no change of a row: its `op` is no text.")
    if op == _TRUNCATED:
        raise _Untranslatable(
            "wrong_value",
            "The table was truncated, which says of no row that it is gone: delete them in the source.",
        )
    return dict(found.topic.types).get(op)


def _row(found: _Record) -> dict[str, Any]:
    op = found.value["op"]
    data = found.value.get("before" if op == "d" else "after")
    if not isinstance(data, dict):
        raise _Untranslatable(
            "missing_field", f"The change `{op}` has no row: give the table a replica identity with its key."
        )
    return data


def _key(found: _Record, row: dict[str, Any] | None) -> bytes:
    """The key at the topic's places: columns of the row, where it is a topic of rows."""
    topic = found.topic
    holder = found if row is None else _Record(topic, found.record, row)
    parts = [holder.text(place, "key") for place in topic.key]
    return key_text(parts).encode("utf-8", "surrogatepass")


def _within(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _header(raw: bytes) -> Any:
    """A header's text; Connect's JSON converter quotes it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _Untranslatable("not_utf8", f"A header is not UTF-8: {error}.") from None
    if text[:1] != '"':
        return text
    try:
        return _decoder.decode(raw)
    except msgspec.DecodeError:
        return text


def _time(value: Any, unit: Unit, place: str) -> str:
    if isinstance(value, str):
        return value  # judged by the contract
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _Untranslatable("wrong_type", f"What is at {place} is no time.")
    if isinstance(value, Decimal) and not -30 <= value.adjusted() <= 30:  # or its digits would be written out
        raise _Untranslatable("out_of_range", f"The time at {place} is outside the years 1 to 9999.")
    try:
        if unit == "days":
            return (date(1970, 1, 1) + timedelta(days=int(value))).isoformat()
        moment = _EPOCH + timedelta(microseconds=int(value * _MICROSECONDS[unit]))
    except (OverflowError, ArithmeticError):
        raise _Untranslatable(
            "out_of_range", f"The time at {place} is outside the years 1 to 9999."
        ) from None
    return moment.isoformat().replace("+00:00", "Z")
