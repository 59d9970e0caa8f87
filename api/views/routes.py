"""`/v1/views` and `/v1/relations`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import document_answer, page_answer, row_answer
from api.context import Context
from api.problems import documented
from api.views import documents
from mesh_core import read

router = APIRouter(prefix="/v1", tags=["views"])


@router.get("/views", operation_id="list_views", responses=documents.VIEWS | documented())
async def list_views(mesh: Context) -> Response:
    """The views that are served: name, version, key, columns and types, freshness."""
    found = await read.views(mesh.database)
    return document_answer(found.document, found.position)


@router.get("/relations", operation_id="list_relations", responses=documents.RELATIONS | documented())
async def list_relations(mesh: Context) -> Response:
    """Entities, the services that own them, and the edges by which they can be joined."""
    found = await read.relations(mesh.database)
    return document_answer(found.document, found.position)


@router.get(
    "/views/{view}",
    operation_id="list_rows",
    openapi_extra={"parameters": documents.PAGING},
    responses=documents.ROWS | documented(400, 404, 410, 422),
)
async def list_rows(view: str, request: Request, mesh: Context) -> Response:
    """Rows in the order of the key; any `column=value` or `column=eq.value` keeps those that are equal."""
    page = await read.list_rows(
        mesh.database,
        view,
        request.query_params.multi_items(),
        limit=mesh.settings.page_limit_default,
        limit_max=mesh.settings.page_limit_max,
    )
    return page_answer(request, page)


@router.get(
    "/views/{view}/{key:path}",
    operation_id="get_row",
    responses=documents.ROW | documented(400, 404, 422),
)
async def get_row(view: str, key: str, mesh: Context) -> Response:
    """The row with this key.

    The parts of a composite key are percent-encoded and joined by commas; the whole is then encoded as any
    segment of a path is.
    """
    return row_answer(await read.one_row(mesh.database, view, key))
