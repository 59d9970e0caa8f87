"""`/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from api.admin import documents
from api.context import Context, Mesh
from mesh_core.errors import MeshError
from mesh_core.model import Catalog
from mesh_core.read.status import unready
from mesh_core.telemetry.metrics import API

router = APIRouter(tags=["admin"])


@router.get("/livez", operation_id="livez", responses=documents.ALIVE)
async def livez() -> Response:
    """Whether the process runs."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", operation_id="readyz", responses=documents.READY)
async def readyz(mesh: Context) -> Response:
    """Whether reads can be trusted: Postgres is there, migrated, all is deployed, nothing is halted."""
    reasons = await _reasons(mesh)
    status = "not ready" if reasons else "ready"
    return JSONResponse({"status": status, "reasons": reasons}, 503 if reasons else 200)


@router.get("/metrics", operation_id="metrics", responses=documents.METRICS)
async def metrics() -> Response:
    """Prometheus' text format; docs/reference/metrics.md lists the names."""
    return Response(generate_latest(API), media_type=CONTENT_TYPE_LATEST)


async def _reasons(mesh: Mesh) -> list[str]:
    try:
        catalog = await asyncio.to_thread(Catalog.load, mesh.settings.catalog)
    except MeshError as error:
        return [str(error)]
    return await unready(mesh.database, [*catalog.entities, *catalog.views])
