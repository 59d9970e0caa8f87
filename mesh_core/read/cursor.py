"""Cursors: a place between two rows, opaque to clients, signed, so that only places that were answered are asked for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

import msgspec
from pydantic import SecretStr

from mesh_core.read.errors import InvalidCursor, InvalidParameter
from mesh_core.read.queries import Place

MAX_CURSOR = 8192
_SIGNATURE = 16


def cursor_key(secret: SecretStr | None, database_url: str) -> bytes:
    """The key of all processes that answer from a database: the secret, or one made of how to reach the database."""
    given = database_url if secret is None else secret.get_secret_value()
    # Slow, as whoever has a cursor could try passwords of the database.
    return hashlib.pbkdf2_hmac("sha256", given.encode(), b"flexmesh cursor", 300_000)


def encode_cursor(key: bytes, scope: Sequence[str], place: Place) -> str:
    """The cursor of a place in rows of this `scope` (what is listed, and its order), in letters, digits, `-` and `_`.

    Raises InvalidParameter where it would be too long to be asked for.
    """
    content = msgspec.json.encode((scope, place.backwards, place.values))
    text = base64.urlsafe_b64encode(_signature(key, content) + content).decode().rstrip("=")
    if len(text) > MAX_CURSOR:
        raise InvalidParameter(
            f"order: the value at the end of this page has so many characters that no page can follow ({len(text):,} as "
            "a cursor).",
            remedy=f"Order by a column with shorter values; a cursor has at most {MAX_CURSOR:,} characters.",
        )
    return text


def decode_cursor(key: bytes, text: str) -> tuple[tuple[str, ...], Place]:
    """Its scope and place. Raises InvalidCursor unless it was made with this key."""
    try:
        if len(text) > MAX_CURSOR or not text.isascii():
            raise ValueError
        signed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        signature, content = signed[:_SIGNATURE], signed[_SIGNATURE:]
        if not hmac.compare_digest(signature, _signature(key, content)):
            raise ValueError
    except (ValueError, binascii.Error):
        raise InvalidCursor(remedy="Take the cursor from the Link header of another page.") from None
    scope, backwards, values = msgspec.json.decode(content)
    return tuple(scope), Place(tuple(values), backwards)


def _signature(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")[:_SIGNATURE]
