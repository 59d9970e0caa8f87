"""`/openapi.json`: the routes of the code, and those of each view that is deployed now."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from api import problems
from api.context import reading
from api.declarations import documents as declarations
from api.views.documents import row_paths, view_paths
from mesh_core import read
from mesh_core.read.subject import ADMIN


def serve_openapi(app: FastAPI) -> None:
    """Add the route to `app`."""

    async def openapi(request: Request) -> Response:
        if (
            not request.headers.get("authorization")
            and request.app.state.mesh.settings.auth_anonymous_role is None
        ):
            return _answer(document(app, [], admin=False))  # a page that tells how to send a token needs it
        reader = await reading(request)
        views = await read.views(reader)
        return _answer(document(app, views.document, admin=ADMIN in reader.subject.roles))

    app.add_route("/openapi.json", openapi, include_in_schema=False)


def _answer(found: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
    return Response(msgspec.json.encode(found), 200, headers, "application/json")


def document(app: FastAPI, views: list[dict[str, Any]], *, admin: bool = True) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes of `app` and of these views, as the catalogue tells them.

    Routes of the admin are in it for an `admin`.
    """
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    made["paths"] |= row_paths()
    for view in views:
        made["paths"] |= view_paths(view)
    components = made.setdefault("components", {}).setdefault("schemas", {})
    components |= {"Problem": problems.SCHEMA, **declarations.SCHEMAS}
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own; ours are problems
        components.pop(name, None)
    if not admin:
        made["paths"] = {
            path: told for path, told in made["paths"].items() if not path.startswith("/v1/admin/")
        }
    made["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    made["security"] = [{"token": []}, {}]
    return made
