"""Errors as RFC 9457 problem details: the one place that renders them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.authentication import TooManyRequests, Unauthenticated
from api.negotiation import NotAcceptable
from mesh_core.contracts import SchemaNotUnderstood
from mesh_core.errors import DependencyUnavailable, MeshError, UsageError
from mesh_core.log import DeliveryFailed, EnvelopeError, MessageTooLarge, TopicMissing
from mesh_core.model import DeclarationError
from mesh_core.read import errors as read

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:flexmesh:problem:"

_REMEDIES = {
    404: "The paths that exist are in /openapi.json and /docs.",
    405: "The methods of each path are in /openapi.json.",
}


class InvalidBody(UsageError):
    """The request's body cannot be used."""


class BodyTooLarge(UsageError):
    """The request's body is too large."""


class UnsupportedMediaType(UsageError):
    """The request's body is not of a kind that is taken here."""


class SeveralRefused(UsageError):
    """Several things are refused, each of `errors` for a `detail` of its own."""

    def __init__(self, message: str, *, remedy: str = "", errors: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.errors = errors


class EventsRefused(SeveralRefused):
    """Events do not keep their contracts, so none of them is published.

    `errors` tells of each: its `index` among those sent, `id`, `type`, `reason`, `detail`.
    """


class IncompatibleContracts(SeveralRefused):
    """New contracts would break who reads these events, or what was published.

    `errors` tells of each change: `type`, `path`, `what`, `breaks`, `detail`.
    """


_STATUS: Mapping[type[MeshError], int] = {
    read.NotFound: 404,
    read.RequestError: 400,
    read.HistoryTooLong: 422,
    read.LogIncomplete: 503,
    read.CursorExpired: 410,
    read.NotReached: 504,
    read.TooStale: 503,
    read.Parked: 409,
    read.NotMigrated: 503,
    read.NotDeployed: 503,
    MessageTooLarge: 413,
    TopicMissing: 503,
    DeliveryFailed: 503,
    EnvelopeError: 422,
    read.Forbidden: 403,
    Unauthenticated: 401,
    TooManyRequests: 429,
    DeclarationError: 422,
    SchemaNotUnderstood: 422,
    InvalidBody: 422,
    EventsRefused: 422,
    IncompatibleContracts: 409,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    NotAcceptable: 406,
    DependencyUnavailable: 503,
    UsageError: 400,
    MeshError: 500,
}
"""By the most derived class that is named here."""


def install(app: FastAPI) -> None:
    """Have every error of `app` rendered here."""
    app.add_exception_handler(MeshError, _mesh_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


def problem(
    path: str,
    status: int,
    kind: str,
    title: str,
    detail: str,
    remedy: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """A problem document about the request to `path`, with `more` members. `kind` is the last part of its `type`."""
    document = {
        "type": TYPE + kind,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        "remedy": remedy,
        **(more or {}),
    }
    # A lone surrogate that a client sent cannot be written as UTF-8.
    body = json.dumps(document, ensure_ascii=False).encode(errors="replace")
    extra = {"Cache-Control": "no-store", **(headers or {})}
    if status == 503:
        extra.setdefault("Retry-After", "1")
    return Response(body, status, extra, MEDIA_TYPE)


def internal_error(path: str) -> Response:
    """The problem of an error that nobody foresaw; what it was is in the log alone."""
    return problem(
        path,
        500,
        "internal-error",
        "Something went wrong here.",
        "The request was fine or not; handling it failed.",
        "Try again; if it stays, look in the log for this X-Correlation-ID.",
    )


def url_too_long(path: str, length: int, longest: int) -> Response:
    """The problem of a URL that is not even read."""
    return problem(
        path,
        414,
        "url-too-long",
        "The URL is too long.",
        f"Path and parameters have {length:,} bytes, more than {longest:,}.",
        "Ask by POST /v1/query, or with fewer values.",
    )


def status_of(error: MeshError) -> int:
    """The HTTP status that tells of `error`."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def kind_of(error: type[MeshError]) -> str:
    """`ViewNotFound` as `view-not-found`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


async def _mesh_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MeshError)
    return problem_of(request, error)


def problem_of(request: Request, error: MeshError) -> Response:
    """The problem document of an error."""
    title = (type(error).__doc__ or "").strip().split("\n")[0]
    detail, remedy = error.args[0], error.remedy or "Correct the request."
    if isinstance(error, read.Forbidden) and "authorization" not in request.headers:
        detail = f"{detail} No token was sent."
        remedy = f"Send Authorization: Bearer TOKEN of a role that may. {remedy}"
    return problem(
        request.url.path,
        status_of(error),
        kind_of(type(error)),
        title,
        detail,
        remedy,
        _headers(error),
        {"errors": error.errors} if isinstance(error, SeveralRefused) else None,
    )


def _headers(error: MeshError) -> dict[str, str] | None:
    match error:
        case read.Unmet():
            return _place(error)
        case Unauthenticated():
            return {"WWW-Authenticate": "Bearer"}
        case TooManyRequests():
            return {"Retry-After": str(error.retry_after)}
    return None


def _place(error: read.Unmet) -> dict[str, str]:
    age = {} if error.age is None else {"Mesh-Age": f"{error.age:.3f}"}
    return {"Mesh-Position": error.position, **age}


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    kind = re.sub(r"[^a-z]+", "-", detail.lower()).strip("-")
    remedy = _REMEDIES.get(error.status_code, "See /docs.")
    return problem(request.url.path, error.status_code, kind, detail, detail + ".", remedy, error.headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return problem(
        request.url.path,
        422,
        "invalid-request",
        "The request does not have the form that the route asks for.",
        "; ".join(faults)[:2000],
        "The form is in /openapi.json.",
    )


ALWAYS = (401, 429, 500, 503)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that can answer with these problems, besides those of ALWAYS."""
    titles = {
        400: "The request cannot be understood.",
        401: "The request has no token, or one that is refused.",
        403: "Who asks may not do that.",
        404: "There is nothing of that name.",
        405: "The path has no such method.",
        406: "The answer has none of the forms that are accepted.",
        409: "An event below Mesh-Min-Position waits behind a dead letter.",
        410: "The cursor is of another order of rows, or of columns that have changed since.",
        413: "The body is too large.",
        415: "The body is not of a kind that is taken here.",
        422: "The request does not have the form that the route asks for.",
        429: "Whoever asks has asked too often.",
        500: "Something went wrong here.",
        504: "What was asked for by Mesh-Min-Position was not reached in time.",
        503: "Postgres or Kafka is unavailable, or not yet migrated and deployed.",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": titles[status], "content": content} for status in sorted({*statuses, *ALWAYS})
    }


SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "description": "What went wrong, to what, and what to do (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "remedy"],
    "properties": {
        "type": {"type": "string", "format": "uri", "examples": [TYPE + "row-not-found"]},
        "title": {"type": "string", "examples": ["There is no row with that key."]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "examples": ["order_overview has no row with the key '7'."]},
        "instance": {"type": "string", "examples": ["/v1/views/order_overview/7"]},
        "remedy": {"type": "string", "examples": ["Check the key."]},
        "errors": {
            "description": "Of events or changes of contracts that are refused: which, and why.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0},
                    "id": {"type": ["string", "null"]},
                    "type": {"type": ["string", "null"]},
                    "path": {"type": "string", "examples": ["$.data.total"]},
                    "what": {"type": "string", "examples": ["made required"]},
                    "reason": {"type": "string", "examples": ["missing_field"]},
                    "detail": {
                        "type": "string",
                        "examples": ["Object missing required field `order_id` - at `$.data`"],
                    },
                },
            },
        },
    },
}
