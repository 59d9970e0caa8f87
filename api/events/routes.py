"""`/v1/events`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.answers import page_answer
from api.context import Context, Demanded, only_known
from api.events import documents
from api.problems import documented
from api.views.documents import DEMAND
from mesh_core import read

router = APIRouter(prefix="/v1/events", tags=["events"], dependencies=[Depends(only_known)])

Text = Annotated[str | None, Query(min_length=1, max_length=512)]


@router.get(
    "",
    operation_id="list_events",
    openapi_extra={"parameters": DEMAND},
    responses=documents.TIMELINE | documented(400, 410, 422, 504),
)
async def list_events(
    request: Request,
    mesh: Context,
    demand: Demanded,
    workflow: Text = None,
    service: Text = None,
    entity: Text = None,
    type: Text = None,  # noqa: A002  # the name of the parameter
    subject: Text = None,
    limit: str | None = None,
    cursor: str | None = None,
) -> Response:
    """The timeline: events that belong to a workflow in the order of their time, by any of the filters."""
    given = {"workflow": workflow, "service": service, "entity": entity, "type": type, "subject": subject}
    filters = {name: value for name, value in given.items() if value is not None}
    page = await read.timeline(mesh.database, filters, mesh.paging, limit=limit, cursor=cursor, demand=demand)
    return page_answer(request, page)
