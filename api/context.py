"""What every route works with, made once by `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.publishing import Publishing
from mesh_core.read import Database
from mesh_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Mesh:
    """The settings, the one way to read, and the one way to publish."""

    settings: Settings
    database: Database
    publishing: Publishing


async def _mesh(request: Request) -> Mesh:  # async, or each request would visit a thread
    mesh: Mesh = request.app.state.mesh
    return mesh


Context = Annotated[Mesh, Depends(_mesh)]
"""A route's parameter of this type is the Mesh."""
