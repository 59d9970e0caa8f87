"""`/v1/views` and `/v1/relations`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.answers import CSV, JSON, NDJSON, facts_answer, page_answer, row_answer, stream_answer
from api.context import Mesh, Reading, demanded, only, only_known, reading
from api.negotiation import media_type
from api.problems import documented, problem_of
from api.views import documents
from mesh_core import read
from mesh_core.errors import MeshError
from mesh_core.read.grammar import only_select

PREFIX = "/v1/views/"
HISTORY = "/history"
router = APIRouter(prefix="/v1", tags=["views"], dependencies=[Depends(only_known)])


@router.get("/views", operation_id="list_views", responses=documents.VIEWS | documented(400))
async def list_views(request: Request, reader: Reading) -> Response:
    """The views that are served: name, version, key, columns and types, freshness."""
    found = await read.views(reader)
    return facts_answer(request, found)


@router.get("/relations", operation_id="list_relations", responses=documents.RELATIONS | documented(400, 403))
async def list_relations(request: Request, reader: Reading) -> Response:
    """Entities, the services that own them, and the edges by which they can be joined."""
    found = await read.relations(reader)
    return facts_answer(request, found)


class RowsFirst:
    """ASGI middleware. Answers for rows before what frameworks do around a route, which took a third of a small read.

    `documents.row_paths` describes its routes, whose parameters are those of the view.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._row, self._rows = _routes()
        self._history = _Route(f"{PREFIX}{{view}}/{{key:path}}{HISTORY}", get_history, methods=["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; what is not for rows passes through."""
        view, slash, key = "", "", ""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(PREFIX):
            view, slash, key = scope["path"][len(PREFIX) :].partition("/")
        if not view:
            await self._app(scope, receive, send)
            return
        route = self._row if slash else self._rows
        if slash and _is_history(scope):
            route, key = self._history, key.removesuffix(HISTORY)
        scope["route"], scope["path_params"] = route, {"view": view, "key": key}
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except MeshError as error:
            response = problem_of(request, error)
        await response(scope, receive, send)


def _is_history(scope: Scope) -> bool:
    """Whether the path has a segment more than that of a row; a slash that is encoded is one of the row's key."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path.endswith(HISTORY.encode()) and path[len(PREFIX) :].count(b"/") > 1


def serve_rows(app: FastAPI) -> None:
    """Add the routes of rows to `app`, before all others, for the methods that they do not have."""
    app.router.routes[:0] = _routes()


def _routes() -> list[Route]:
    return [
        _Route(f"{PREFIX}{{view}}/{{key:path}}", get_row, methods=["GET"]),
        _Route(f"{PREFIX}{{view}}", list_rows, methods=["GET"]),
    ]


class _Route(Route):
    """Tells of itself in the scope, as FastAPI's routes do: metrics are by route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self}


async def list_rows(request: Request) -> Response:
    """A page of rows as JSON, or all of them as NDJSON or CSV: those that meet all `column=operator.value`."""
    mesh: Mesh = request.app.state.mesh
    view, demand = request.path_params["view"], demanded(request)
    form = media_type(request.headers, (JSON, NDJSON, CSV))
    reader = await reading(request)
    query = request.scope["query_string"].decode("latin-1")
    parameters = parse_qsl(query, keep_blank_values=True)
    if form == JSON:
        page = await read.list_rows(reader, view, parameters, mesh.paging, demand)
        return page_answer(request, page)
    async with AsyncExitStack() as opened:
        rows = read.stream_rows(reader, view, parameters, mesh.paging, demand, as_json=form == NDJSON)
        stream = await opened.enter_async_context(rows)
        return stream_answer(request, stream, form, opened.pop_all().aclose)


async def get_row(request: Request) -> Response:
    """The row with this key.

    The parts of a composite key are percent-encoded and joined by commas; the whole is then encoded as any
    segment of a path is.
    """
    view, key = request.path_params["view"], request.path_params["key"]
    media_type(request.headers, (JSON,))
    select = only_select(request.query_params.multi_items())
    reader = await reading(request)
    return row_answer(request, await read.one_row(reader, view, key, select, demanded(request)))


async def get_history(request: Request) -> Response:
    """The events that changed the row with this key, the newest first, and what each changed in it.

    They are those that whoever asks would have noticed, and of each is told what its timeline would tell.
    """
    mesh: Mesh = request.app.state.mesh
    view, key = request.path_params["view"], request.path_params["key"]
    media_type(request.headers, (JSON,))
    given = only(request, ("limit", "cursor"))
    wanted = read.HistoryPage.of(given.get("limit"), given.get("cursor"), mesh.paging)
    reader = await reading(request)
    await read.one_row(reader, view, key)  # whoever may not see the row learns nothing of what it was
    told = await mesh.histories.told(view, key, request.is_disconnected)
    return page_answer(request, await read.history_seen(reader, view, told, wanted))
