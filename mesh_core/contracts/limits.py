"""Bounds on what an event may hold, so that Postgres takes whatever was accepted; never on several events."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

MAX_VALUE_BYTES = 1_048_576
"""The longest record value, 1 MiB: Kafka's own default."""
MAX_DEPTH = 200
"""How deep objects and arrays may nest."""
MAX_DIGITS = 1000
"""Digits of a Decimal, and how far its first digit may be from the point, either way."""
MIN_INT, MAX_INT = -(2**63), 2**63 - 1
"""What a Postgres bigint holds."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_json = msgspec.json.Encoder(decimal_format="number")


def contains_nul(value: bytes) -> bool:
    """Whether JSON text holds the character U+0000 (escaped), which Postgres cannot store."""
    return b"\\u0000" in value and _NUL.search(value) is not None


def too_deep(value: bytes) -> bool:
    """Whether JSON text nests deeper than MAX_DEPTH."""
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for byte in _STRING.sub(b"", value):
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif byte in b"]}":
            depth -= 1
    return False


def decimal_problem(number: Decimal) -> str | None:
    """Why an event may not carry `number`, or None if it may."""
    if not number.is_finite():
        return f"{number} is not a number"
    # The length of the text bounds the digits, and is had faster than they are.
    long = len(str(number)) > MAX_DIGITS and len(number.as_tuple().digits) > MAX_DIGITS
    if long or not -MAX_DIGITS <= number.adjusted() <= MAX_DIGITS:
        return f"a number has at most {MAX_DIGITS} digits before and after the point"
    return None


def time_problem(time: datetime) -> str | None:
    """Why an event may not carry `time` (which has a zone), or None if it may."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        return f"{time.isoformat()} is outside the years 1 to 9999 in UTC"
    return None


def json_problem(value: Any) -> str | None:
    """Why an event may not carry this free JSON, or None if it may. Its numbers are ints and Decimals."""
    if isinstance(value, Decimal):
        return decimal_problem(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return None
    return next(filter(None, map(json_problem, value)), None)


def check_decimal(number: Decimal | int, precision: int | None, scale: int | None) -> str | None:
    """Why `number` does not fit numeric(precision, scale) without rounding, or None if it does.

    Zeros at the end do not count: 1.500 fits a scale of 2. Without a precision everything fits.
    """
    if precision is None or not number:
        return None
    places = scale or 0
    digits, exponent = Decimal(number).as_tuple()[1:]
    assert isinstance(exponent, int)
    last = len(digits)
    while exponent < -places and digits[last - 1] == 0:
        last, exponent = last - 1, exponent + 1
    if exponent < -places:
        return f"{number} has more than {places} digits after the point"
    if last + exponent > precision - places:
        return f"{number} has more than {precision - places} digits before the point"
    return None


def to_json_text(value: Any) -> str:
    """A decoded value as JSON text for a jsonb column, Decimals as exact numbers."""
    return _json.encode(value).decode()
