"""`/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from api.admin import documents
from api.context import Context, Mesh, subject_of
from mesh_core import read
from mesh_core.errors import MeshError
from mesh_core.model import Catalog
from mesh_core.read.status import unready
from mesh_core.read.subject import ADMIN
from mesh_core.store.migrate import newest_revision
from mesh_core.telemetry.metrics import API

router = APIRouter(tags=["admin"])


@router.get("/livez", operation_id="livez", responses=documents.ALIVE)
async def livez() -> Response:
    """Whether the process runs."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", operation_id="readyz", responses=documents.READY)
async def readyz(request: Request, mesh: Context) -> Response:
    """Whether reads can be trusted: Postgres is there, migrated, all of the code is deployed, nothing is halted.

    The `reasons` why not are for the role `admin`: they name what there is. A view that is registered but not deployed yet
    is told there, and makes nothing unready: nobody relies on it.
    """
    may_know = await _may_know(request)
    reasons = await _reasons(mesh)
    if reasons:
        return JSONResponse({"status": "not ready", "reasons": reasons if may_know else []}, 503)
    waiting = [
        f"Registered, not deployed: {name}." for name in await read.undeployed(mesh.database.as_itself)
    ]
    return JSONResponse({"status": "ready", "reasons": waiting if may_know else []})


@router.get("/metrics", operation_id="metrics", responses=documents.METRICS)
async def metrics() -> Response:
    """Prometheus' text format; docs/reference/metrics.md lists the names."""
    return Response(generate_latest(API), media_type=CONTENT_TYPE_LATEST)


async def _may_know(request: Request) -> bool:
    try:
        return ADMIN in (await subject_of(request)).roles
    except MeshError:  # whoever looks whether we are ready needs no token
        return False


async def _reasons(mesh: Mesh) -> list[str]:
    try:
        catalog = await asyncio.to_thread(Catalog.load, mesh.settings.catalog)
    except MeshError as error:
        return [str(error)]
    return await unready(mesh.database, [*catalog.entities, *catalog.views], newest_revision())
