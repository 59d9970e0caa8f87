"""What every route works with, made once by `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.negotiation import demand
from api.publishing import Publishing
from mesh_core.read import Database, Demand, Paging
from mesh_core.read.errors import UnknownParameter, listing, nearest, shown
from mesh_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Mesh:
    """The settings, the one way to read, the one way to publish, and how lists are paged."""

    settings: Settings
    database: Database
    publishing: Publishing
    paging: Paging


async def _mesh(request: Request) -> Mesh:  # async, or each request would visit a thread
    mesh: Mesh = request.app.state.mesh
    return mesh


def demanded(request: Request) -> Demand:
    """What the answer must reflect, as the request's headers say. Raises InvalidParameter."""
    mesh: Mesh = request.app.state.mesh
    return demand(request.headers, mesh.settings.read_wait_max_seconds)


async def _demanded(request: Request) -> Demand:
    return demanded(request)


async def only_known(request: Request) -> None:
    """A dependency of routes whose parameters are those that they declare. Raises UnknownParameter at any other."""
    route = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise UnknownParameter(
                f"There is no parameter {shown(name)}.",
                remedy=f"{nearest(name, known)}Parameters: {listing(known)}.",
            )


Demanded = Annotated[Demand, Depends(_demanded)]
"""A route's parameter of this type is what the answer must reflect, as the request's headers say."""
Context = Annotated[Mesh, Depends(_mesh)]
"""A route's parameter of this type is the Mesh."""
