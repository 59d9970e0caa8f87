"""Answers with their position."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from fastapi import Request
from starlette.responses import Response

from mesh_core.read import Answer, Page

POSITION = "Mesh-Position"
JSON = "application/json"

_encoder = msgspec.json.Encoder(decimal_format="number", uuid_format="canonical")

POSITION_HEADER: dict[str, Any] = {
    "description": "Per topic and partition the next offset; what was answered reflects all that is below.",
    "schema": {"type": "string"},
    "example": '{"sales.events":{"0":42}}',
}
LINK_HEADER: dict[str, Any] = {
    "description": 'The next page, as `<URL>; rel="next"`; absent on the last one.',
    "schema": {"type": "string"},
}


def row_answer(answer: Answer) -> Response:
    """A JSON text that is ready, with its position."""
    return Response(answer.body, headers={POSITION: answer.position}, media_type=JSON)


def page_answer(request: Request, page: Page) -> Response:
    """A page with its position, and the link to the next one."""
    response = row_answer(page)
    if page.next is not None:
        kept: Iterable[tuple[str, str]] = (
            (name, value) for name, value in request.query_params.multi_items() if name != "cursor"
        )
        query = urlencode([*kept, ("cursor", page.next)])
        response.headers["Link"] = f'<{quote(request.url.path)}?{query}>; rel="next"'
    return response


def document_answer(document: Any, position: str, *, status: int = 200, **headers: str) -> Response:
    """Plain data as JSON: decimals as exact numbers, times as RFC 3339."""
    return Response(_encoder.encode(document), status, {POSITION: position, **headers}, JSON)
