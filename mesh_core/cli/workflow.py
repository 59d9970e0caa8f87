"""`mesh workflow`: what belongs to one workflow, in all services."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from mesh_core.cli.output import Json, cell_text, print_json, print_table

if TYPE_CHECKING:
    from mesh_core.cli.surroundings import Surroundings


def register(app: typer.Typer) -> None:
    """Adds the command `workflow`."""
    app.command("workflow")(workflow)


def workflow(
    workflow_id: Annotated[UUID, typer.Argument(metavar="UUID")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most events of the timeline.")] = 100,
    as_json: Json = False,
) -> None:
    """A workflow's entries in all services, and its events in the order of their time.

    Example: mesh workflow 59fbce57-d36b-5684-902c-ef872095a51b
    """
    from mesh_core.cli.surroundings import find_surroundings

    found = asyncio.run(_read(find_surroundings(), str(workflow_id), limit))
    if as_json:
        print_json(found)
        return
    typer.echo(f"workflow    {found['workflow_id']}")
    for name in ("name", "created_at", "created_by", "attributes"):
        if found[name] is not None:
            typer.echo(f"{name:<11} {cell_text(found[name])}")
    typer.echo()
    entries = [
        [entry[name] for name in ("service", "entity", "key", "registered_at")] for entry in found["entries"]
    ]
    print_table(["service", "entity", "key", "registered at"], entries)
    typer.echo()
    print_table(
        ["time", "type", "subject", "where"],
        [
            [
                event["time"],
                event["type"],
                event["subject"],
                f"{event['topic']}/{event['partition']}/{event['offset']}",
            ]
            for event in found["timeline"]
        ],
    )


async def _read(mesh: Surroundings, workflow_id: str, limit: int) -> dict[str, Any]:
    from mesh_core import read

    timeout = mesh.settings.statement_timeout_seconds
    async with read.Database(mesh.database_url, pool_size=1, statement_timeout_seconds=timeout) as database:
        reader = database.as_itself
        answer = await read.workflow(reader, workflow_id)
        paging = read.Paging(limit, limit, b"")
        page = await read.timeline(reader, {"workflow": workflow_id}, paging)
        document: dict[str, Any] = json.loads(answer.body)
        return document | {"timeline": json.loads(page.body), "position": json.loads(answer.position)}
