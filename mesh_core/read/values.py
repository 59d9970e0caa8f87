"""Values of a request: text, checked against a column's type before Postgres sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

import msgspec

from mesh_core.contracts.limits import contains_nul, json_problem, too_deep
from mesh_core.model.types import ColumnKind

MAX_VALUE = 4096
"""Longest value of a filter, in characters."""

_INT = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)

_DECODER = msgspec.json.Decoder(float_hook=Decimal)

EXPECTED: Mapping[ColumnKind, str] = {
    "int": "a whole number from -9223372036854775808 to 9223372036854775807",
    "text": f"text of at most {MAX_VALUE} characters, without NUL",
    "numeric": "a decimal number such as 12.50",
    "float": "a number such as 0.5",
    "bool": "true or false",
    "timestamptz": "a time with its zone, such as 2026-01-31T12:00:00Z",
    "date": "a date such as 2026-01-31",
    "uuid": "a UUID such as 0198c0de-0000-7000-8000-000000000000",
    "json": f'JSON of at most {MAX_VALUE} characters, such as ["Chai"]; a text in double quotes',
}


def canonical(kind: ColumnKind, text: str) -> str:
    """`text` as Postgres takes it for a column of this kind. Raises ValueError with what is expected."""
    if len(text) <= MAX_VALUE and "\0" not in text and not _has_surrogate(text):
        try:
            return _READERS[kind](text)
        except (ValueError, InvalidOperation, OverflowError):
            pass
    raise ValueError(f"expected {EXPECTED[kind]}")


def _int(text: str) -> str:
    if not _INT.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError
    return str(int(text))


def _decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    return str(Decimal(text))


def _float(text: str) -> str:
    if not _DECIMAL.fullmatch(text) or float(text) in (float("inf"), float("-inf")):
        raise ValueError
    if float(text) == 0 and Decimal(text) != 0:  # too small to be told from 0
        raise ValueError
    return repr(float(text))


def _bool(text: str) -> str:
    if text not in ("true", "false"):
        raise ValueError
    return text


def _timestamp(text: str) -> str:
    # A `+` that was not percent-encoded arrives as a blank.
    time = datetime.fromisoformat(re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", text))
    if time.tzinfo is None or "T" not in text.upper():
        raise ValueError
    return time.astimezone(UTC).isoformat()


def _date(text: str) -> str:
    if not _DAY.fullmatch(text):
        raise ValueError
    return date.fromisoformat(text).isoformat()


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError
    return str(UUID(text))


def _json(text: str) -> str:
    value = text.encode()
    if contains_nul(value) or too_deep(value) or json_problem(_DECODER.decode(value)):
        raise ValueError
    return text


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else False


_READERS: Mapping[ColumnKind, Callable[[str], str]] = {
    "int": _int,
    "text": str,
    "numeric": _decimal,
    "float": _float,
    "bool": _bool,
    "timestamptz": _timestamp,
    "date": _date,
    "uuid": _uuid,
    "json": _json,
}
