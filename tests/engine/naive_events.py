"""Reads events for the naive model: the standard library's json, then one plain check after another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from mesh_core.model.event import Contract
from mesh_core.model.types import Field, FieldType


class Refused(Exception):
    """The event cannot be taken. `args[0]` is the reason; `type` its type, if that could be read.

    `envelope` is all but its data, if only its contract stands against it.
    """

    type: str | None = None
    envelope: NaiveEvent | None = None


@dataclass(frozen=True)
class NaiveEvent:
    """`data` is None if no contract knows the type; its values are ints, Decimals, datetimes, dicts, …"""

    type: str
    id: str
    source: str
    time: datetime
    workflowid: UUID | None
    sequence: int | None
    data: Mapping[str, Any] | None


def read_event(value: bytes | None, contracts: Mapping[str, Contract]) -> NaiveEvent:
    """The event in a record's value. Raises Refused."""
    if value is None:
        raise Refused("null_payload")
    if len(value) > 1_048_576:
        raise Refused("too_large")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Refused("not_utf8") from None
    try:
        parsed = json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except ValueError:
        raise Refused("not_json") from None
    if not isinstance(parsed, dict):
        raise Refused("not_a_cloudevent")
    texts = list(_texts(parsed))
    if any(re.search("[\ud800-\udfff]", found) for found in texts):
        raise Refused("surrogate")
    try:
        return _event(parsed, texts, contracts)
    except Refused as refusal:
        kind = parsed.get("type")
        refusal.type = kind if isinstance(kind, str) else None
        raise


def _event(parsed: dict[str, Any], texts: list[str], contracts: Mapping[str, Contract]) -> NaiveEvent:
    if any("\0" in found for found in texts):
        raise Refused("nul_character")
    if parsed.get("specversion") != "1.0":
        raise Refused("not_a_cloudevent")
    for name in ("id", "source", "type", "time"):
        if name not in parsed:
            raise Refused("missing_field")
        if not isinstance(parsed[name], str):
            raise Refused("wrong_type")
    time = _value(parsed["time"], FieldType("timestamptz"))
    workflow = _value(parsed.get("workflowid"), FieldType("uuid", nullable=True))
    sequence = parsed.get("sequence")
    if isinstance(sequence, str):
        if not re.fullmatch("[0-9]{1,18}", sequence):
            raise Refused("wrong_value")
        sequence = int(sequence)
    sequence = _value(sequence, FieldType("int", nullable=True))
    kind = parsed["type"]
    envelope = NaiveEvent(kind, parsed["id"], parsed["source"], time, workflow, sequence, None)
    try:
        return replace(envelope, data=_data(parsed, kind, contracts))
    except Refused as refusal:
        refusal.envelope = envelope
        raise


def _data(parsed: dict[str, Any], kind: str, contracts: Mapping[str, Contract]) -> dict[str, Any] | None:
    if kind in contracts:
        if "data" not in parsed:
            raise Refused("missing_field")
        return _object(parsed["data"], contracts[kind].fields)
    if any(kind.rpartition(".v")[0] == known.rpartition(".v")[0] for known in contracts):
        raise Refused("unknown_version")
    return None


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)


def _object(value: Any, fields: tuple[Field, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("wrong_type")
    found = {}
    for field in fields:
        if field.name in value:
            found[field.name] = _value(value[field.name], field.type)
        elif field.required:
            raise Refused("missing_field")
        elif field.type.kind == "numeric" and field.default is not None:
            found[field.name] = Decimal(str(field.default))
        else:
            found[field.name] = field.default
    return found


def _value(value: Any, field: FieldType) -> Any:
    if value is None:
        if field.nullable:
            return None
        raise Refused("wrong_type")
    limits = dict(field.constraints)
    found = _parsed(value, field)
    if field.kind in ("int", "numeric", "float"):
        kept = [
            found >= limits.get("ge", found),
            found <= limits.get("le", found),
            "gt" not in limits or found > limits["gt"],
            "lt" not in limits or found < limits["lt"],
        ]
        if not all(kept):
            raise Refused("out_of_range")
    if field.kind in ("text", "list") and not (
        limits.get("min_length", 0) <= len(found) <= limits.get("max_length", len(found))
    ):
        raise Refused("out_of_range")
    return found


def _parsed(value: Any, field: FieldType) -> Any:
    match field.kind:
        case "int":
            if type(value) is not int:
                raise Refused("wrong_type")
            if not -(2**63) <= value < 2**63:
                raise Refused("out_of_range")
            return value
        case "float":
            if isinstance(value, bool) or not isinstance(value, int | Decimal):
                raise Refused("wrong_type")
            return float(value)
        case "numeric":
            return _decimal(value)
        case "text":
            return _of(str, value)
        case "bool":
            return _of(bool, value)
        case "timestamptz":
            return _time(_of(str, value))
        case "date":
            return _converted(date.fromisoformat, _of(str, value))
        case "uuid":
            return _converted(UUID, _of(str, value))
        case "enum":
            if value not in field.values or isinstance(value, bool):
                raise Refused("wrong_value")
            return value
        case "list":
            assert field.item is not None
            return [_value(item, field.item) for item in _of(list, value)]
        case "object":
            return _object(value, field.fields)
        case "json":
            return value


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise Refused("wrong_type")
    return value


def _converted(convert: Any, text: str) -> Any:
    try:
        return convert(text)
    except ValueError:
        raise Refused("wrong_value") from None


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise Refused("wrong_type")
    try:
        number = Decimal(value)
    except ArithmeticError:
        raise Refused("wrong_value") from None
    if not number.is_finite() or abs(number.adjusted()) > 1000 or len(number.as_tuple().digits) > 1000:
        raise Refused("out_of_range")
    return number


def _time(text: str) -> datetime:
    time: datetime = _converted(datetime.fromisoformat, text)
    if time.tzinfo is None:
        raise Refused("zone_missing")
    try:
        time.astimezone(UTC)
    except OverflowError:
        raise Refused("out_of_range") from None
    return time


def plain_json(value: Any) -> Any:
    """A value of an event as it stands in a json column."""
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    if isinstance(value, dict):
        return {name: plain_json(item) for name, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | UUID):
        return value.isoformat() if isinstance(value, date) else str(value)
    return value
