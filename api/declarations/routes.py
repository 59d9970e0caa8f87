"""`/v1/admin/views`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.answers import document_answer, page_answer, row_answer
from api.bodies import read_body
from api.context import Admin, Context, Demanded, only_known
from api.declarations import documents
from api.problems import documented
from api.views.documents import DEMAND
from mesh_core import read
from mesh_core.model.builtin import ViewRegistered, ViewRemoved

router = APIRouter(prefix="/v1/admin/views", tags=["admin"], dependencies=[Depends(only_known)])


@router.get(
    "",
    operation_id="list_registered_views",
    openapi_extra={"parameters": DEMAND},
    responses=documents.REGISTERED_VIEWS | documented(400, 403, 410, 504),
)
async def list_registered_views(
    request: Request,
    mesh: Context,
    subject: Admin,
    demand: Demanded,
    limit: str | None = None,
    cursor: str | None = None,
) -> Response:
    """The views that are registered as data, with who did it and when; those of the code are not among them."""
    page = await read.registered_views(
        mesh.database.as_seen_by(subject), mesh.paging, limit=limit, cursor=cursor, demand=demand
    )
    return page_answer(request, page)


@router.get(
    "/{name}",
    operation_id="get_registered_view",
    openapi_extra={"parameters": DEMAND},
    responses=documents.REGISTERED_VIEW | documented(400, 403, 404, 409, 504),
)
async def get_registered_view(
    name: str, request: Request, mesh: Context, subject: Admin, demand: Demanded
) -> Response:
    """A registered view: its `declaration`, with all that is derived, can be changed and put back."""
    return row_answer(request, await read.registered_view(mesh.database.as_seen_by(subject), name, demand))


@router.put(
    "/{name}",
    operation_id="register_view",
    openapi_extra=documents.DECLARATION,
    responses=documents.REGISTERED | documented(400, 403, 413, 415, 422),
)
async def register_view(name: str, request: Request, mesh: Context, subject: Admin) -> Response:
    """Register a view, or change one, as an event on `mesh.events`. It serves after the next deploy.

    All is checked that is checked of a view in code. The answer has the declaration with all that is derived.
    """
    data = await read_body(request, dict[str, Any], {})
    code = await mesh.deploying.catalog()
    model = await asyncio.to_thread(code.registrable, name, data)
    body = {"name": name, "declaration": model.to_document(), "registered_by": subject.name}
    position = await mesh.publishing.publish(ViewRegistered.model_validate(body))
    return document_answer(body, position.to_header())


@router.delete(
    "/{name}",
    operation_id="remove_view",
    openapi_extra={"parameters": DEMAND},
    responses=documents.REMOVED | documented(400, 403, 404, 409, 504),
)
async def remove_view(name: str, mesh: Context, subject: Admin, demand: Demanded) -> Response:
    """Let a registered view be declared no more, as an event on `mesh.events`.

    As one whose code is gone it serves on, until `mesh prune` is told its name.
    """
    await read.registered_view(mesh.database.as_seen_by(subject), name, demand)
    body = {"name": name, "removed_by": subject.name}
    position = await mesh.publishing.publish(ViewRemoved.model_validate(body))
    return document_answer(body, position.to_header())
