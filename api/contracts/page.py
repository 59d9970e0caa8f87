"""`/asyncapi.json`: the contracts that whoever asks may see; `/asyncapi`: a page that shows them, from files of this package."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import msgspec
from fastapi import FastAPI, Request
from starlette.responses import FileResponse, HTMLResponse, Response

from api.context import Mesh, reading
from api.negotiation import matches
from mesh_core.contracts import asyncapi
from mesh_core.model.grants import CONTRACTS, publishing
from mesh_core.read import Live
from mesh_core.read.compiler import Statement, head_statement
from mesh_core.read.errors import Forbidden

FOLDER = Path(__file__).parent.parent / "static" / "asyncapi"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Events of the mesh</title>
<link rel="stylesheet" href="/asyncapi/page.css">
</head>
<body>
<header>
<h1>Events of the mesh</h1>
<p id="about">…</p>
<form id="who">
<input id="token" type="password" autocomplete="off" placeholder="Token" aria-label="Token"><button>Use it</button>
</form>
<input id="find" type="search" placeholder="Find a type or a field" aria-label="Find a type or a field">
</header>
<main id="topics" aria-live="polite"></main>
<script src="/asyncapi/page.js"></script>
</body>
</html>
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def serve_asyncapi(app: FastAPI) -> None:
    """Add the document, the page and its files to `app`."""

    async def document(request: Request) -> Response:
        mesh: Mesh = request.app.state.mesh
        seen: list[Live] = []

        def look(live: Live) -> Statement:
            seen.append(live)
            return head_statement((), ())

        await (await reading(request)).read(look)
        contracts = (await mesh.registry.known()).every.values()
        shown = {each.service for each in contracts if _may_see(seen[-1], each.service)}
        body = msgspec.json.encode(asyncapi(each for each in contracts if each.service in shown))
        headers = {
            "Cache-Control": "private, no-cache",
            "Vary": "Authorization",
            "ETag": f'"{blake2b(body, digest_size=12).hexdigest()}"',
        }
        if matches(request.headers, headers["ETag"]):
            return Response(None, 304, headers)
        return Response(body, 200, headers, "application/json")

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    async def script(_: Request) -> Response:
        return FileResponse(FOLDER / "page.js", media_type="text/javascript")

    async def style(_: Request) -> Response:
        return FileResponse(FOLDER / "page.css", media_type="text/css")

    for path, route in (
        ("/asyncapi.json", document),
        ("/asyncapi", page),
        ("/asyncapi/page.js", script),
        ("/asyncapi/page.css", style),
    ):
        app.add_route(path, route, include_in_schema=False)


def _may_see(live: Live, service: str) -> bool:
    for resource in (CONTRACTS, publishing(service)):
        try:
            live.require(resource)
        except Forbidden:
            continue
        return True
    return False
