"""`/openapi.json`: the routes of the code, and those of each view that is deployed now."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from api import problems
from api.views.documents import row_paths, view_paths
from mesh_core import read


def serve_openapi(app: FastAPI) -> None:
    """Add the route to `app`."""

    async def openapi(request: Request) -> Response:
        views = await read.views(request.app.state.mesh.database)
        return Response(msgspec.json.encode(document(app, views.document)), media_type="application/json")

    app.add_route("/openapi.json", openapi, include_in_schema=False)


def document(app: FastAPI, views: list[dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes of `app` and of these views, as the catalogue tells them."""
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    made["paths"] |= row_paths()
    for view in views:
        made["paths"] |= view_paths(view)
    components = made.setdefault("components", {}).setdefault("schemas", {})
    components["Problem"] = problems.SCHEMA
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own; ours are problems
        components.pop(name, None)
    return made
