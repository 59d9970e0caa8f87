"""`/v1/admin/plan` and `/v1/admin/deploys`."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from api.answers import page_answer, row_answer
from api.bodies import read_body
from api.context import Admin, Context, only_known
from api.deploys import documents
from api.problems import documented
from mesh_core import read
from mesh_core.engine.deploy_report import Wishes

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(only_known)])


@router.get("/plan", operation_id="plan", responses=documents.PLAN | documented(400, 403, 422))
async def plan(mesh: Context, subject: Admin) -> Response:
    """What a deploy would do now: what is new, changed or unused, what each step reads, about how long it takes."""
    found = await mesh.deploying.plan()
    body = {
        "changes": any(cost.change not in ("unchanged", "unused") for cost in found.costs),
        "steps": [asdict(cost) for cost in found.costs],
        "warnings": list(found.warnings),
    }
    return JSONResponse(body, headers={"Cache-Control": "private, no-store"})


@router.post(
    "/deploys",
    status_code=202,
    operation_id="deploy",
    openapi_extra=documents.WISHES,
    responses=documents.ACCEPTED | documented(400, 403, 413, 415, 422),
)
async def deploy(request: Request, mesh: Context, subject: Admin) -> Response:
    """Deploy what the code of this process declares and what is registered, as `mesh deploy` does, in the background.

    What comes of it is in its record, at `Location`. While another deploy is under way it waits for that.
    """
    asked = await read_body(request, documents.DeployWishes, documents.DeployWishes())
    wishes = Wishes(
        require_equal=asked.require_equal,
        accept_truncated=asked.accept_truncated,
        seed_from_live=asked.seed_from_live,
        processes=mesh.settings.build_processes,
    )
    number = await mesh.deploying.deploy(wishes, subject.name)
    return JSONResponse(
        {"id": number, "state": "waiting"}, 202, headers={"Location": f"/v1/admin/deploys/{number}"}
    )


@router.get("/deploys", operation_id="list_deploys", responses=documents.DEPLOYS | documented(400, 403, 410))
async def list_deploys(
    request: Request, mesh: Context, subject: Admin, limit: str | None = None, cursor: str | None = None
) -> Response:
    """The record of deploys, whoever ran them, the newest first."""
    return page_answer(
        request,
        await read.deploys(mesh.database.as_seen_by(subject), mesh.paging, limit=limit, cursor=cursor),
    )


@router.get(
    "/deploys/{number}", operation_id="get_deploy", responses=documents.DEPLOY | documented(400, 403, 404)
)
async def get_deploy(number: str, request: Request, mesh: Context, subject: Admin) -> Response:
    """A deploy: what it meant to do, how far its builds are, what it proved, how it ended."""
    return row_answer(request, await read.one_deploy(mesh.database.as_seen_by(subject), number, mesh.paging))
