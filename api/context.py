"""What every route works with, made once by `create_app`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.authentication import Authenticator
from api.deploying import Deploying
from api.histories import Histories
from api.ingesting import Ingesting
from api.negotiation import demand
from api.publishing import Publishing
from api.registry import Registry
from mesh_core.model.grants import publishing
from mesh_core.read import Database, Demand, Live, Paging
from mesh_core.read.compiler import Statement, head_statement
from mesh_core.read.database import Reader
from mesh_core.read.errors import Forbidden, UnknownParameter, listing, nearest, shown
from mesh_core.read.subject import ADMIN, Subject
from mesh_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Mesh:
    """The settings, the one way to read, publish, deploy, tell histories and know who asks, and how lists are paged."""

    settings: Settings
    database: Database
    publishing: Publishing
    ingesting: Ingesting
    paging: Paging
    deploying: Deploying
    histories: Histories
    registry: Registry
    authenticator: Authenticator


async def _mesh(request: Request) -> Mesh:  # async, or each request would visit a thread
    mesh: Mesh = request.app.state.mesh
    return mesh


def demanded(request: Request) -> Demand:
    """What the answer must reflect, as the request's headers say. Raises InvalidParameter."""
    mesh: Mesh = request.app.state.mesh
    return demand(request.headers, mesh.settings.read_wait_max_seconds)


async def _demanded(request: Request) -> Demand:
    return demanded(request)


async def subject_of(request: Request) -> Subject:
    """Who asks. Raises Unauthenticated."""
    mesh: Mesh = request.app.state.mesh
    return await mesh.authenticator.subject(request)


async def reading(request: Request) -> Reader:
    """The database as whoever asks may see it. Raises Unauthenticated."""
    mesh: Mesh = request.app.state.mesh
    return mesh.database.as_seen_by(await subject_of(request))


async def may_publish(reader: Reader, service: str) -> None:
    """Raises Forbidden where whoever asks may not publish events of a service."""

    def statement(live: Live) -> Statement:
        live.require(publishing(service))
        return head_statement((), ())

    await reader.read(statement)


async def _admin(request: Request) -> Subject:
    subject = await subject_of(request)
    if ADMIN not in subject.roles:
        raise Forbidden(
            f"{request.method} {request.url.path} is for the role {ADMIN} alone.",
            remedy="Ask with a token of that role.",
        )
    return subject


async def only_known(request: Request) -> None:
    """A dependency of routes whose parameters are those that they declare. Raises UnknownParameter at any other."""
    route = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    only(request, known)


def only(request: Request, known: Sequence[str]) -> Mapping[str, str]:
    """The parameters of a request, if all are among `known`. Raises UnknownParameter at any other."""
    for name in request.query_params:
        if name not in known:
            raise UnknownParameter(
                f"There is no parameter {shown(name)}.",
                remedy=f"{nearest(name, known)}Parameters: {listing(known)}.",
            )
    return request.query_params


Admin = Annotated[Subject, Depends(_admin)]
"""A route with a parameter of this type is for the role `admin` alone: who asks. Others are Forbidden."""
Reading = Annotated[Reader, Depends(reading)]
"""A route's parameter of this type is the database as whoever asks may see it."""
Demanded = Annotated[Demand, Depends(_demanded)]
"""A route's parameter of this type is what the answer must reflect, as the request's headers say."""
Context = Annotated[Mesh, Depends(_mesh)]
"""A route's parameter of this type is the Mesh."""
