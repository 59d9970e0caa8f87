"""Identifiers: UUIDs that sort by time, names, and the canonical text of a key."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from urllib.parse import quote, unquote
from uuid import UUID

MAX_KEY_BYTES = 512
MAX_NAME_BYTES = 40


def uuid7() -> UUID:
    """A new version-7 UUID (RFC 9562 §5.7): 48 bits of Unix milliseconds, then random bits."""
    return UUID(int=_uuid7())


def uuid7_text() -> str:
    """`str(uuid7())`, in half the time."""
    digits = f"{_uuid7():032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _uuid7() -> int:
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return value & ~(0x3 << 62) | 0x2 << 62


def key_text(parts: Sequence[object]) -> str:
    """The canonical text of a key, used as record key, `subject` and in URLs.

    One part stands as it is; several are percent-encoded (RFC 3986 unreserved characters stay) and joined
    by commas.
    """
    if len(parts) == 1:
        return str(parts[0])
    return ",".join(quote(str(part), safe="") for part in parts)


def key_parts(text: str, count: int) -> tuple[str, ...]:
    """The parts of a canonical key text; the inverse of `key_text`. Raises ValueError on a wrong count."""
    if count == 1:
        return (text,)
    parts = tuple(unquote(part, errors="strict") for part in text.split(","))
    if len(parts) != count:
        raise ValueError(f"the key {text!r} has {len(parts)} parts, not {count}")
    return parts


def snake_case(name: str) -> str:
    """`OrderLine` as `order_line`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def name_problem(name: str) -> str | None:
    """Why `name` cannot be a name of an entity, view or column, or None when it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return f"{name!r} is not a lower-case name of letters, digits and underscores"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"{name!r} is longer than {MAX_NAME_BYTES} bytes"
    if "__" in name or name.endswith("_"):
        return f"{name!r} has a double or trailing underscore, which version numbers use"
    return None
