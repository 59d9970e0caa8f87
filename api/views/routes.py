"""`/v1/views` and `/v1/relations`."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from api.answers import CSV, JSON, NDJSON, facts_answer, page_answer, row_answer, stream_answer
from api.bodies import read_body
from api.context import Context, Demanded, Mesh, demanded, only_known
from api.negotiation import media_type
from api.problems import documented
from api.views import documents
from mesh_core import read
from mesh_core.read.grammar import only_select

router = APIRouter(prefix="/v1", tags=["views"], dependencies=[Depends(only_known)])


@router.get("/views", operation_id="list_views", responses=documents.VIEWS | documented())
async def list_views(request: Request, mesh: Context) -> Response:
    """The views that are served: name, version, key, columns and types, freshness."""
    found = await read.views(mesh.database)
    return facts_answer(request, found)


@router.get("/relations", operation_id="list_relations", responses=documents.RELATIONS | documented())
async def list_relations(request: Request, mesh: Context) -> Response:
    """Entities, the services that own them, and the edges by which they can be joined."""
    found = await read.relations(mesh.database)
    return facts_answer(request, found)


@router.post(
    "/query",
    operation_id="query",
    openapi_extra=documents.QUERIES | {"parameters": documents.DEMAND},
    responses=documents.RESULTS | documented(400, 404, 410, 413, 415, 422, 504),
)
async def query(request: Request, mesh: Context, demand: Demanded) -> Response:
    """Several queries, answered from one snapshot: `position` is that of all results."""
    media_type(request.headers, (JSON,))
    asked = await read_body(request, list[documents.Query], [])
    queries = [read.Asked(each.view, each.parameters, each.key) for each in asked]
    return row_answer(request, await read.answer_several(mesh.database, queries, mesh.paging, demand))


def serve_rows(app: FastAPI) -> None:
    """Add the routes of rows to `app`, before all others.

    They are Starlette's own: what FastAPI does around a route takes a quarter of a small read, and its parameters are
    those of the view. `documents.row_paths` describes them.
    """
    app.router.routes[:0] = [
        _Route("/v1/views/{view}/{key:path}", get_row, methods=["GET"]),
        _Route("/v1/views/{view}", list_rows, methods=["GET"]),
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
    parameters = request.query_params.multi_items()
    if form == JSON:
        page = await read.list_rows(mesh.database, view, parameters, mesh.paging, demand)
        return page_answer(request, page)
    async with AsyncExitStack() as opened:
        rows = read.stream_rows(mesh.database, view, parameters, mesh.paging, demand, as_json=form == NDJSON)
        stream = await opened.enter_async_context(rows)
        return stream_answer(request, stream, form, opened.pop_all().aclose)


async def get_row(request: Request) -> Response:
    """The row with this key.

    The parts of a composite key are percent-encoded and joined by commas; the whole is then encoded as any
    segment of a path is.
    """
    mesh: Mesh = request.app.state.mesh
    view, key = request.path_params["view"], request.path_params["key"]
    media_type(request.headers, (JSON,))
    select = only_select(request.query_params.multi_items())
    return row_answer(request, await read.one_row(mesh.database, view, key, select, demanded(request)))
