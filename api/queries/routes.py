"""`/v1/query`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.answers import JSON, row_answer
from api.bodies import read_body
from api.context import Context, Demanded, Reading, only_known
from api.negotiation import media_type
from api.problems import documented
from api.queries import documents
from api.views.documents import DEMAND
from mesh_core import read

router = APIRouter(prefix="/v1/query", tags=["views"], dependencies=[Depends(only_known)])


@router.post(
    "",
    operation_id="query",
    openapi_extra=documents.QUERIES | {"parameters": DEMAND},
    responses=documents.RESULTS | documented(400, 404, 406, 410, 413, 415, 422, 504),
)
async def query(request: Request, mesh: Context, reader: Reading, demand: Demanded) -> Response:
    """Several queries, answered from one snapshot: `position` is that of all results."""
    media_type(request.headers, (JSON,))
    asked = await read_body(request, list[documents.Query], [])
    queries = [read.Asked(each.view, each.parameters, each.key) for each in asked]
    return row_answer(request, await read.answer_several(reader, queries, mesh.paging, demand))
