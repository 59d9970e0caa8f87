"""Around every request: its ids, its span, its metrics, and an answer even when handling it fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import internal_error, url_too_long
from mesh_core.model.identifiers import uuid7_text
from mesh_core.read.database import SPENT
from mesh_core.telemetry import bound, get_logger, is_traceparent, metrics, new_traceparent, request_span

_CORRELATION, _REQUEST, _TRACE = b"x-correlation-id", b"x-request-id", b"traceparent"
_READ = frozenset((_CORRELATION, _REQUEST, _TRACE))
_ACCEPTED = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_log = get_logger(__name__)


class RequestTelemetry:
    """ASGI middleware. A correlation id is taken from the request or made, and always answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; other scopes pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Of a header that is given twice the first counts.
        headers = {name: value.decode("latin-1") for name, value in scope["headers"][::-1] if name in _READ}
        correlation_id = _correlation_id(headers)
        given = headers.get(_TRACE, "")
        traceparent = given if is_traceparent(given) else new_traceparent()
        status = 0
        started = perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                total, waited = perf_counter() - started, sum(spent)
                timing = f"db;dur={waited * 1000:.1f}, total;dur={total * 1000:.1f}"
                message["headers"] = [
                    *message["headers"],
                    (_CORRELATION, correlation_id.encode()),
                    (b"server-timing", timing.encode()),
                ]
            await send(message)

        if scope["method"] == "HEAD":
            # As GET; the server sends no body, for it goes by the scope that it made.
            scope = {**scope, "method": "GET", "head": True}
        spent: list[float] = []
        SPENT.set(spent)
        with (
            bound(correlation_id=correlation_id, traceparent=traceparent),
            request_span(f"{scope['method']} {scope['path']}", traceparent) as span,
        ):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                _log.exception("request failed", method=scope["method"], path=scope["path"])
                if status:
                    raise  # too late for another answer
                await internal_error(scope["path"])(scope, receive, send_with_id)
            finally:
                route = _route(scope)
                seconds = perf_counter() - started
                if span.is_recording():
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.response.status_code", status)
                requests, taken = _measures(scope["method"], route, status)
                requests.inc()
                taken.observe(seconds)
                if logging.root.isEnabledFor(
                    logging.DEBUG
                ):  # to find that out otherwise takes as long as a metric
                    _log.debug(
                        "request",
                        method=scope["method"],
                        route=route,
                        status=status,
                        seconds=round(seconds, 6),
                    )


class UrlLimit:
    """ASGI middleware. Refuses a path with its parameters that is longer than so many bytes, before anybody reads it."""

    def __init__(self, app: ASGIApp, longest: int) -> None:
        self._app, self._longest = app, longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; other scopes pass through."""
        length = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        if scope["type"] == "http" and length > self._longest:
            await url_too_long(scope["path"][:200], length, self._longest)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@lru_cache(maxsize=1000)
def _measures(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Of the requests with these labels: to find them out anew takes as long as to count."""
    return metrics.REQUESTS.labels(method, route, str(status)), metrics.REQUEST_SECONDS.labels(route)


def _correlation_id(headers: Mapping[bytes, str]) -> str:
    for name in (_CORRELATION, _REQUEST):
        given = headers.get(name, "")
        if _ACCEPTED.fullmatch(given):
            return given
    return uuid7_text()


def _route(scope: Scope) -> str:
    """The path of the route, never that of the request: its values would be labels without end."""
    return getattr(scope.get("route"), "path", "") or "unmatched"
