"""Bodies of requests: JSON, read exactly, refused before anything is done with it."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.problems import BodyTooLarge, InvalidBody, UnsupportedMediaType
from mesh_core.contracts.limits import contains_nul, json_problem, too_deep

T = TypeVar("T")


async def raw_body(request: Request, longest: int) -> bytes:
    """The bytes of the body. Raises BodyTooLarge, once more than `longest` have come."""
    body, more = b"", True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > longest:
            raise BodyTooLarge(
                f"The body has more than {longest:,} bytes.",
                remedy="Send a reference to large content instead of the content.",
            )
    return body


async def read_body(request: Request, kind: type[T], empty: T) -> T:
    """The JSON body as `kind`, `empty` if there is none; its decimals stay exact.

    Raises InvalidBody, BodyTooLarge or UnsupportedMediaType.
    """
    body = await raw_body(request, request.app.state.mesh.settings.body_bytes_max)
    if not body:
        return empty
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(remedy="Send it with Content-Type: application/json.")
    if contains_nul(body):
        raise InvalidBody("The body holds the character NUL, which cannot be kept.", remedy="Leave it out.")
    if too_deep(body):
        raise InvalidBody("The body is nested too deep.", remedy="Flatten it.")
    try:
        decoded = msgspec.json.Decoder(kind, float_hook=Decimal).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBody(
            f"The body cannot be used: {error}.", remedy="Its form is in /openapi.json."
        ) from None
    if problem := json_problem(msgspec.to_builtins(decoded, builtin_types=(Decimal,))):
        raise InvalidBody(f"The body cannot be used: {problem}.", remedy="Correct the number.")
    return decoded
