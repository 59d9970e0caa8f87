"""`/v1/workflows`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.answers import document_answer, page_answer, row_answer
from api.bodies import read_body
from api.context import Context, Demanded, Reading, may_publish, only_known
from api.keys import KeyConvertor  # noqa: F401  # the form of {key:key}
from api.problems import documented
from api.views.documents import DEMAND
from api.workflows import documents
from mesh_core import read
from mesh_core.model.builtin import MESH_SERVICE, EntryRegistered, WorkflowCreated
from mesh_core.model.identifiers import uuid7
from mesh_core.read.workflows import checked_entry

router = APIRouter(prefix="/v1/workflows", tags=["workflows"], dependencies=[Depends(only_known)])

Text = Annotated[str, Query(min_length=1, max_length=512)]


@router.post(
    "",
    status_code=201,
    operation_id="create_workflow",
    openapi_extra=documents.NEW_WORKFLOW,
    responses=documents.CREATED | documented(400, 403, 413, 415, 422),
)
async def create_workflow(request: Request, mesh: Context, reader: Reading) -> Response:
    """Generate a workflow's UUID and register it, as an event on `mesh.events`.

    It can be used at once. It can be read from here once the checkpoint has reached `Mesh-Position`.
    """
    await may_publish(reader, MESH_SERVICE)
    new = await read_body(request, documents.NewWorkflow, documents.NewWorkflow())
    workflow_id = uuid7()
    position = await mesh.publishing.publish(
        WorkflowCreated(workflow_id=workflow_id, name=new.name, attributes=new.attributes)
    )
    body: dict[str, object] = {
        "workflow_id": workflow_id,
        "name": new.name,
        "attributes": new.attributes,
        "entries": [],
    }
    return document_answer(body, position.to_header(), status=201, Location=f"/v1/workflows/{workflow_id}")


@router.get(
    "",
    operation_id="find_workflows",
    openapi_extra={"parameters": DEMAND},
    responses=documents.WORKFLOWS | documented(400, 403, 410, 422, 504),
)
async def find_workflows(
    request: Request,
    mesh: Context,
    reader: Reading,
    demand: Demanded,
    service: Text,
    entity: Text,
    key: Text,
    limit: str | None = None,
    cursor: str | None = None,
) -> Response:
    """The workflows that an entry of a service belongs to."""
    page = await read.workflows_of(
        reader, service, entity, key, mesh.paging, limit=limit, cursor=cursor, demand=demand
    )
    return page_answer(request, page)


@router.get(
    "/{workflow_id}",
    operation_id="get_workflow",
    responses=documents.WORKFLOW | documented(400, 403, 404, 409, 422, 504),
)
async def get_workflow(
    workflow_id: str,
    request: Request,
    reader: Reading,
    demand: Demanded,
    expand: Annotated[Literal["rows"] | None, Query()] = None,
) -> Response:
    """A workflow with its entries in all services; `expand=rows` adds their rows."""
    found = await read.workflow(reader, workflow_id, expand=expand is not None, demand=demand)
    return row_answer(request, found)


@router.put(
    "/{workflow_id}/entries/{service}/{entity}/{key:key}",
    operation_id="register_entry",
    responses=documents.REGISTERED | documented(400, 403, 413, 422),
)
async def register_entry(
    workflow_id: UUID, service: str, entity: str, key: str, mesh: Context, reader: Reading
) -> Response:
    """Register an entry by hand, for what no event tells. Doing it twice is doing it once."""
    await may_publish(reader, MESH_SERVICE)
    checked_entry(service, entity, key)
    event = EntryRegistered(
        workflow_id=workflow_id, entry_service=service, entry_entity=entity, entry_key=key
    )
    position = await mesh.publishing.publish(event)
    body = {"workflow_id": workflow_id, "service": service, "entity": entity, "key": key}
    return document_answer(body, position.to_header())
