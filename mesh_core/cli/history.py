"""`mesh history`: the events that made a row of a view what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh_core.cli.output import Json, cell_text

if TYPE_CHECKING:
    from mesh_core.engine.lineage import Lineage

WIDTH = 60
"""Characters of a value that are shown; --json has all of them."""


def register(app: typer.Typer) -> None:
    """Adds the command `history`."""
    app.command("history")(history)


def history(
    view: Annotated[str, typer.Argument(help="The view.")],
    key: Annotated[
        str,
        typer.Argument(help="The row's key; parts are percent-encoded and joined by commas, as in its URL."),
    ],
    as_json: Json = False,
) -> None:
    """The events that changed a row, of whichever services, the oldest first, and what each changed in which columns.

    They are applied anew in tables that nobody else sees, as far as the live checkpoints are. Exit status 1 if there never
    was such a row.

    Example: mesh history order_overview 10248
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.lineage import lineage
    from mesh_core.errors import MeshError

    mesh = find_surroundings()
    found = lineage(mesh.database_url, mesh.history_driver(), view, key)
    if not found.steps:
        raise MeshError(
            f"{view} has never had a row with the key {key!r}.",
            remedy="Check the key; mesh dead-letters list tells what could not be applied.",
        )
    if as_json:
        _print_json(found)
    else:
        _show(found, key)


def _print_json(found: Lineage) -> None:
    import msgspec

    document = {
        "view": found.view,
        "version": found.number,
        "position": found.position.to_json(),
        "steps": [described(step) for step in found.steps],
    }
    encoder = msgspec.json.Encoder(decimal_format="number")
    typer.echo(msgspec.json.format(encoder.encode(document), indent=2).decode())


def described(step: Any) -> dict[str, Any]:
    """A step as plain data: its event, what became of the row, and the columns that it changed."""
    from mesh_core.model.states import difference

    change, columns = difference(step.before, step.after)
    return {**step.cause.to_json(), "change": change, "columns": columns}


def _show(found: Lineage, key: str) -> None:
    events = "1 event" if len(found.steps) == 1 else f"{len(found.steps)} events"
    typer.echo(f"{found.view} {key}: {events}, as version {found.number} tells")
    for step in map(described, found.steps):
        time = step["time"] or step["recorded_at"]
        at = f"{step['topic']}/{step['partition']}/{step['offset']}"
        kind = step["type"] or "a record without a value"
        typer.echo()
        typer.secho(f"{time:%Y-%m-%d %H:%M:%S}  {step['service']}  {kind}  {at}  {step['change']}", bold=True)
        if step["workflow_id"]:
            typer.echo(f"  in workflow {step['workflow_id']}")
        for place in step["released"]:
            typer.echo(f"  applies {place['topic']}/{place['partition']}/{place['offset']}")
        width = max(map(len, step["columns"]))
        for name, sides in step["columns"].items():
            typer.echo(f"  {name:<{width}}  {_value(sides['before'])} → {_value(sides['after'])}")


def _value(value: object) -> str:
    text = "-" if value is None else str(cell_text(value))
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
