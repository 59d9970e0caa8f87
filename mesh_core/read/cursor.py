"""Cursors: where a page ended, opaque to clients. They carry the version that they belong to."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

from mesh_core.read.errors import InvalidCursor

MAX_CURSOR = 8192


def encode_cursor(version: int, key: Sequence[object]) -> str:
    """The cursor after the row with this key, in letters, digits, `-` and `_`."""
    content = json.dumps([version, [str(part) for part in key]], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode_cursor(text: str) -> tuple[int, tuple[str, ...]]:
    """The version and the key's values as text. Raises InvalidCursor."""
    try:
        if len(text) > MAX_CURSOR or not text.isascii():
            raise ValueError
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, key = json.loads(content)
        if type(version) is not int or not all(isinstance(part, str) for part in key):
            raise ValueError
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise InvalidCursor(
            remedy='Take the cursor from the Link header, rel="next", of the page before.'
        ) from None
    return version, tuple(key)
