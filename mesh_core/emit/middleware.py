"""ASGI middleware for services: what a request does belongs to what the request belongs to."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import UUID

from mesh_core.model.identifiers import uuid7_text
from mesh_core.telemetry import bound, is_traceparent, new_traceparent

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ID = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


class MeshMiddleware:
    """Binds the ids of a request, for the events and log lines of its handling.

    `app.add_middleware(MeshMiddleware)` with FastAPI or Starlette. The correlation id is that of `X-Correlation-ID` or
    `X-Request-ID`, or a new one, and is answered; the trace is that of `traceparent`; `Mesh-Workflow` names a workflow and
    `Mesh-Causation-ID` the event that led to the request. What is malformed is left out. `tenant` tells the tenant from
    the ASGI scope, for it must be one that was checked.
    """

    def __init__(self, app: App, tenant: Callable[[Scope], str | None] = lambda scope: None) -> None:
        self._app, self._tenant = app, tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; other scopes pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        correlation_id = (
            _id(headers.get(b"x-correlation-id")) or _id(headers.get(b"x-request-id")) or uuid7_text()
        )
        traceparent = headers.get(b"traceparent", "")

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = (b"x-correlation-id", correlation_id.encode())
                message["headers"] = [*message.get("headers", ()), told]
            await send(message)

        with bound(
            correlation_id=correlation_id,
            causation_id=_id(headers.get(b"mesh-causation-id")),
            workflow_id=_workflow(headers.get(b"mesh-workflow")),
            tenant_id=self._tenant(scope),
            traceparent=traceparent if is_traceparent(traceparent) else new_traceparent(),
        ):
            await self._app(scope, receive, send_with_id)


def _id(text: str | None) -> str | None:
    return text if text is not None and _ID.fullmatch(text) else None


def _workflow(text: str | None) -> str | None:
    try:
        return str(UUID(text)) if text else None
    except ValueError:
        return None
