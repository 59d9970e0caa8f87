"""`mesh client`: a typed client of the API, as source code that a frontend keeps beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mesh_core.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the command group `client`."""
    client = typer.Typer(no_args_is_help=True, help="A typed client of the API.")
    client.command("typescript")(typescript)
    app.add_typer(client, name="client")


def typescript(
    to: Annotated[Path, typer.Option("--to", help="Folder to write into; it is made.")],
    url: Annotated[
        str | None, typer.Option(help="A running API to ask for its views, instead of the database.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MESH_TOKEN", help="Bearer token to ask it with: the client has what that may see."
        ),
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="What this role may see, of the database; by default all.")
    ] = None,
    decimals: Annotated[
        Literal["number", "string"], typer.Option(help="How Decimals are read; string keeps all digits.")
    ] = "number",
    integers: Annotated[
        Literal["number", "bigint"],
        typer.Option(help="How whole numbers are read; number refuses those from 2^53."),
    ] = "number",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 1 if the folder is not up to date.")
    ] = False,
) -> None:
    """Write a TypeScript client of the views: typed rows, filters and orders, without any dependency.

    The same views give the same bytes, so keep the folder in version control, and see by --check whether it is up
    to date. Files that this command did not write are never replaced.

    Example: mesh client typescript --to web/src/mesh --role sales
    """
    from mesh_core.cli.client.folder import Folder
    from mesh_core.cli.client.generation import files
    from mesh_core.cli.client.source import views_of_api, views_of_database

    if url is not None and role is not None:
        raise UsageError(
            "--role is of the database; an API goes by its token.", remedy="Leave one of them out."
        )
    views = views_of_database(role) if url is None else views_of_api(url, token)
    folder = Folder(to, files(views, decimals, integers))
    if check:
        for name in folder.differing:
            typer.echo(f"not up to date: {to / name}")
        raise typer.Exit(1 if folder.differing else 0)
    changed = folder.write()
    names = ", ".join(view["name"] for view in views)
    typer.echo(f"{to}: {len(changed)} files changed, for {len(views)} views: {names}")
