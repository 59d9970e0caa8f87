"""The HTTP protocol binding of CloudEvents 1.0: from a request to structured events."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import msgspec
from fastapi import Request
from starlette.datastructures import Headers

from api.bodies import raw_body
from api.problems import InvalidBody, UnsupportedMediaType
from mesh_core.log.cloudevents import structured_from_binary

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
_REMEDY = f"Send an event as {STRUCTURED}, several as {BATCHED}, or JSON data with its attributes in headers: ce-id, ce-type, …"


async def read_events(request: Request, longest: int) -> list[bytes]:
    """The events of a request, each as structured JSON, not yet checked.

    Raises InvalidBody, BodyTooLarge (beyond `longest` bytes), UnsupportedMediaType, EnvelopeError.
    """
    content_type = request.headers.get("content-type", "")
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    charset = parameters.lower().replace(" ", "").partition("charset=")[2].strip('"')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"The body is in {charset[:40]!a}, not in UTF-8.", remedy="Send UTF-8.")
    if media_type == STRUCTURED:
        return [await raw_body(request, longest)]
    if media_type == BATCHED:
        return _batch(await raw_body(request, longest))
    if not any(name.startswith("ce-") for name in request.headers):
        if media_type == "application/json":
            raise UnsupportedMediaType(
                "With application/json the attributes of an event are headers (ce-id, ce-source, ce-type, …); "
                "the request has none.",
                remedy=f"Send the whole event as {STRUCTURED}, or add the headers.",
            )
        raise UnsupportedMediaType(
            f"Content-Type {content_type[:100]!a} is no form of an event.", remedy=_REMEDY
        )
    if media_type not in ("application/json", "") and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"The data is {media_type[:100]!a}, not JSON.", remedy=_REMEDY)
    body = await raw_body(request, longest)
    return [structured_from_binary(_as_in_kafka(request.headers), body or None)]


def _batch(body: bytes) -> list[bytes]:
    try:
        return [bytes(each) for each in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBody(
            f"The batch is not a JSON array of events: {error}.", remedy="Send [event, …]."
        ) from None


def _as_in_kafka(headers: Headers) -> list[tuple[str, bytes]]:
    """The attributes as headers of a record, whose values are not percent-encoded."""
    found = [
        (f"ce_{name[3:]}", unquote_to_bytes(value))
        for name, value in headers.items()
        if name.startswith("ce-")
    ]
    return [*found, ("content-type", headers.get("content-type", "application/json").encode())]
