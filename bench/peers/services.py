"""One of three services with its own table, as a frontend would ask it without a mesh: one row, or several by their ids.

PORT=8001 SERVICE=contacts python -m bench.peers.services
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Response

from bench.floor.route import pooled
from mesh_core.cli.serve import bind, server_of

SERVICES = {
    "contacts": "SELECT * FROM read.erp_contact",
    "organisations": "SELECT id, name FROM read.registry_organisation",
    "invoices": "SELECT contact_id AS id, count(*) AS invoice_count, sum(amount) AS invoice_sum "
    "FROM read.billing_invoice GROUP BY contact_id",
}


def create_app(url: str, service: str) -> FastAPI:
    """The service's routes, whose JSON Postgres makes."""
    rows = f"SELECT coalesce(json_agg(r), '[]')::text FROM (SELECT * FROM ({SERVICES[service]}) AS s"
    app, pool = pooled(url)

    async def answer(statement: str, value: object) -> Response:
        async with pool.connection() as connection:
            cursor = await connection.execute(statement, (value,))
            return Response((await cursor.fetchall())[0][0], media_type="application/json")

    @app.get("/after/{key}")
    async def page(key: int) -> Response:
        return await answer(f"{rows} WHERE id > %s::bigint ORDER BY id LIMIT 50) AS r", key)

    @app.get("/by/{keys}")
    async def several(keys: str) -> Response:
        return await answer(f"{rows} WHERE id = ANY(%s::bigint[])) AS r", keys.split(","))

    return app


if __name__ == "__main__":
    server_of(create_app(os.environ["MESH_DATABASE_URL"], os.environ["SERVICE"])).run(
        sockets=[bind("127.0.0.1", int(os.environ["PORT"]))]
    )
