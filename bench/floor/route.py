"""The straight way to serve a view: a FastAPI route, a pool of psycopg, and the SQL of Flexmesh itself.

PORT=8000 python -m bench.floor.route
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from fastapi import FastAPI, Request, Response
from psycopg_pool import AsyncConnectionPool

from mesh_core.cli.serve import bind, server_of
from mesh_core.read.compiler import Statement, list_statement, point_statement
from mesh_core.read.grammar import Paging, list_query, point_query
from mesh_core.read.versions import LOAD, live_from

VIEW = os.environ.get("VIEW", "contact_overview")
_ASKED = "1234567"
"""A key that stands for the one of a request in the values of a statement."""


def pooled(url: str) -> tuple[FastAPI, AsyncConnectionPool]:
    """An app and its connections, which are open while it serves."""
    settings = {"autocommit": True, "options": "-c TimeZone=UTC"}
    pool = AsyncConnectionPool(url, kwargs=settings, min_size=1, max_size=10, open=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    return FastAPI(lifespan=lifespan), pool


def create_app(url: str) -> FastAPI:
    """The two routes over a database that is deployed."""
    with psycopg.connect(url) as connection:
        version = live_from(connection.execute(LOAD).fetchall()).views[VIEW]
    row = point_statement(point_query(version, _ASKED))
    page = list_statement(list_query(version, [(version.key[0], f"gt.{_ASKED}")], Paging(50, 50, b"")))
    app, pool = pooled(url)

    async def answer(statement: Statement, key: str) -> Response:
        values = [key if value == _ASKED else value for value in statement.parameters]
        async with pool.connection() as connection:
            cursor = await connection.execute(statement.text, values)
            found = (await cursor.fetchall())[0]
        return Response(found[3], media_type="application/json", headers={"Mesh-Position": found[1]})

    @app.get("/row/{key}")
    async def one(key: str) -> Response:
        return await answer(row, key)

    @app.get("/page/{after}")
    async def many(after: str, request: Request) -> Response:
        return await answer(page, after)

    return app


if __name__ == "__main__":
    server_of(create_app(os.environ["MESH_DATABASE_URL"])).run(
        sockets=[bind("127.0.0.1", int(os.environ["PORT"]))]
    )
