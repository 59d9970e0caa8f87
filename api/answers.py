"""Answers: the form that the client accepts, its position, its tag, and no byte that the client has already."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from anyio import CancelScope
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from api.negotiation import accepts_gzip, asks_for_age, matches
from mesh_core.read import Answer, Page, Stream
from mesh_core.read.catalogue import Facts

POSITION, AGE, PARKED, IGNORED = "Mesh-Position", "Mesh-Age", "Mesh-Parked", "Mesh-Ignored-Topics"
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
GZIP_FROM = 1000
"""Bytes from which an answer is worth being compressed."""
GZIP_TO = 1_000_000
"""Bytes up to which it is compressed at once: it takes milliseconds in which nobody else is answered."""
_LEVEL = 5
_SENT = re.compile(r"[A-Za-z0-9_.~!$'()*,;:@&=+%/-]*")
_QUOTED = re.compile(r'[",\r\n]')

_encoder = msgspec.json.Encoder(decimal_format="number", uuid_format="canonical")

EXPOSED = (
    POSITION,
    AGE,
    PARKED,
    IGNORED,
    "Link",
    "ETag",
    "Content-Range",
    "Server-Timing",
    "X-Correlation-ID",
    "Retry-After",
    "Location",
)
"""Headers that a page of another origin may read."""

POSITION_HEADER: dict[str, Any] = {
    "description": "Per topic and partition the next offset; what was answered reflects all that is below.",
    "schema": {"type": "string"},
    "example": '{"sales.events":{"0":42}}',
}
AGE_HEADER: dict[str, Any] = {
    "description": "For how many seconds at most something newer may have been in the log; absent if not known.",
    "schema": {"type": "number"},
}
LINK_HEADER: dict[str, Any] = {
    "description": 'The pages beside it, as `<URL>; rel="next"` and `rel="prev"`; absent where there are none.',
    "schema": {"type": "string"},
}
RANGE_HEADER: dict[str, Any] = {
    "description": "With `count`: which rows of how many, as `0-49/830`; on later pages `*/830`.",
    "schema": {"type": "string"},
}
TAG_HEADER: dict[str, Any] = {
    "description": "Changes when the answer does; send it as If-None-Match and get 304 if it is the same.",
    "schema": {"type": "string"},
}


def row_answer(request: Request, answer: Answer, **more: str) -> Response:
    """A JSON text that is ready, with its position; 304 where the client has it."""
    body = answer.body.encode()
    headers = {**placed(answer), "Cache-Control": _kept(request, answer), "Vary": _VARY, **more}
    zipped = GZIP_FROM <= len(body) <= GZIP_TO and accepts_gzip(request.headers)
    if request.method == "GET":
        # A strong tag is of the bytes as they are sent.
        headers["ETag"] = f'"{blake2b(body, digest_size=12).hexdigest()}{"-gzip" if zipped else ""}"'
        if matches(request.headers, headers["ETag"]):
            return Response(None, 304, headers)
    if zipped:
        body = gzip.compress(body, _LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, 200, headers, JSON)


def page_answer(request: Request, page: Page) -> Response:
    """A page with its position, the links to those beside it, and how many rows there are if that was asked."""
    beside = [(relation, cursor) for relation, cursor in (("next", page.next), ("prev", page.prev)) if cursor]
    more = {}
    if beside:
        address = _without_cursor(request)
        more["Link"] = ", ".join(
            f'<{address}cursor={cursor}>; rel="{relation}"' for relation, cursor in beside
        )
    if page.count is not None:
        more["Content-Range"] = content_range(page)
    return row_answer(request, page, **more)


def _without_cursor(request: Request) -> str:
    """The request's own address up to where a cursor is added: as it was sent, if nothing in it must be encoded anew.

    To take it apart and put it together takes a tenth of a page.
    """
    scope = request.scope
    query = scope["query_string"].decode("latin-1")
    path = scope.get("raw_path", b"").decode("latin-1")
    if _SENT.fullmatch(path) and _SENT.fullmatch(query):
        kept = "&".join(part for part in query.split("&") if part and not part.startswith("cursor="))
    else:
        path = quote(scope["path"])
        kept = urlencode(
            [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        )
    return f"{path}?{kept}&" if kept else f"{path}?"


def placed(answer: Answer | Stream) -> dict[str, str]:
    """Headers of what an answer reflects, for how long that may have been less than there is, and what it left out."""
    headers = {POSITION: answer.position}
    if answer.age is not None:
        headers[AGE] = f"{answer.age:.3f}"
    if answer.met.parked:
        headers[PARKED] = str(answer.met.parked)
    if answer.met.ignored:
        headers[IGNORED] = ", ".join(answer.met.ignored)
    return headers


def content_range(page: Page) -> str:
    """Which rows of how many; only of a first page is it known which."""
    if page.first and page.rows:
        return f"0-{page.rows - 1}/{max(page.count or 0, page.rows)}"
    return f"*/{page.count}"


def stream_answer(
    request: Request, stream: Stream, media_type: str, close: Callable[[], Awaitable[Any]]
) -> Response:
    """All rows as they come, as NDJSON or CSV; `close` is called at the end, however it comes."""
    pieces = _lines(stream) if media_type == NDJSON else _csv(stream)
    headers = {**placed(stream), "Cache-Control": "private, no-store", "Vary": _VARY}
    if accepts_gzip(request.headers):
        headers["Content-Encoding"] = "gzip"
        pieces = _zipped(pieces)

    async def closing() -> AsyncIterator[bytes]:
        try:
            if not request.scope.get("head"):
                async for piece in pieces:
                    yield piece
        finally:
            with CancelScope(shield=True):  # a client that has gone cancels us
                await close()

    return StreamingResponse(closing(), 200, headers, f"{media_type}; charset=utf-8")


def facts_answer(request: Request, facts: Facts) -> Response:
    """Plain data that was read, tagged as rows are."""
    return row_answer(request, Answer(_encoder.encode(facts.document).decode(), facts.position, facts.age))


def document_answer(document: Any, position: str, *, status: int = 200, **headers: str) -> Response:
    """Plain data as JSON: decimals as exact numbers, times as RFC 3339."""
    return _Document(_encoder.encode(document), status, {POSITION: position, **headers})


class _Document(Response):
    """A JSON text with headers that nobody need look through for what they lack."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.body, self.status_code, self.background = body, status, None
        self.raw_headers = [
            (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        ]
        self.raw_headers += ((b"content-length", b"%d" % len(body)), (b"content-type", JSON.encode()))


async def _lines(stream: Stream) -> AsyncIterator[bytes]:
    async for rows in stream.chunks:
        yield "".join(f"{row[0]}\n" for row in rows).encode()


async def _csv(stream: Stream) -> AsyncIterator[bytes]:
    """RFC 4180 with a header; no value is an empty field, an empty text is `""`."""
    yield _records([stream.columns])
    async for rows in stream.chunks:
        yield _records(rows)


def _records(rows: Iterable[Sequence[str | None]]) -> bytes:
    return "".join(",".join(map(_field, row)) + "\r\n" for row in rows).encode()


def _field(value: str | None) -> str:
    # The csv module of Python 3.11 cannot tell no value from an empty text.
    if value is None:
        return ""
    if value == "" or _QUOTED.search(value):
        return '"' + value.replace('"', '""') + '"'
    return value


async def _zipped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(_LEVEL, wbits=31)
    async for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def _kept(request: Request, answer: Answer) -> str:
    """Cache-Control by the view's level; never for others than the client, whose grants made the answer."""
    if answer.cache is None or (answer.cache != "no-store" and asks_for_age(request.headers)):
        return "private, no-cache"
    return "private, no-store" if answer.cache == "no-store" else f"private, max-age={answer.cache}"


# An answer that may be used again is none to a request that demands more of it.
_VARY = "Accept, Accept-Encoding, Authorization, Mesh-Min-Position, Prefer"
