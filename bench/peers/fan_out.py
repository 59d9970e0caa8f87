"""A gateway that joins at request time, with aiohttp: a request a service, or a request a row.

PORT=8000 CONTACTS=8001 ORGANISATIONS=8002 INVOICES=8003 BATCHED=1 python -m bench.peers.fan_out
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from aiohttp import ClientSession, TCPConnector, web

BATCHED = os.environ.get("BATCHED") == "1"
Rows = dict[int, dict[str, Any]]


class Gateway:
    """Three services by their ports."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def page(self, request: web.Request) -> web.Response:
        """Fifty contacts after one, with the name of their organisation, and count and sum of their invoices."""
        contacts = await self._ask("CONTACTS", f"after/{request.match_info['key']}")
        organisations, invoices = await asyncio.gather(
            self._by("ORGANISATIONS", {contact["org_id"] for contact in contacts}),
            self._by("INVOICES", {contact["id"] for contact in contacts}),
        )
        none = {"invoice_count": 0, "invoice_sum": 0}
        return web.json_response(
            [
                contact
                | {"org_name": organisations[contact["org_id"]]["name"]}
                | {name: invoices.get(contact["id"], none)[name] for name in none}
                for contact in contacts
            ]
        )

    async def _by(self, service: str, keys: set[int]) -> Rows:
        if BATCHED:
            found = await self._ask(service, f"by/{','.join(map(str, keys))}")
        else:
            answers = await asyncio.gather(*(self._ask(service, f"by/{key}") for key in keys))
            found = [row for answer in answers for row in answer]
        return {row["id"]: row for row in found}

    async def _ask(self, service: str, path: str) -> list[dict[str, Any]]:
        async with self._session.get(f"http://127.0.0.1:{os.environ[service]}/{path}") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found


async def application() -> web.Application:
    """The gateway's one route."""
    session = ClientSession(connector=TCPConnector(limit=100))
    app = web.Application()
    app.router.add_get("/page/{key}", Gateway(session).page)

    async def close(_: web.Application) -> None:
        await session.close()

    app.on_cleanup.append(close)
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
