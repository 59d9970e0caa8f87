"""`mesh stack`: the local Kafka and Postgres alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mesh_core.cli.output import Json, print_json, print_table


def register(app: typer.Typer) -> None:
    """Adds the group `stack`."""
    group = typer.Typer(no_args_is_help=True, help="The local Kafka and Postgres.")
    group.command("up")(up)
    group.command("down")(down)
    group.command("status")(status)
    group.command("reset")(reset)
    app.add_typer(group, name="stack")


def up(as_json: Json = False) -> None:
    """Start what does not run; it goes on after this command.

    Example: mesh stack up
    """
    from mesh_core import stack
    from mesh_core.settings import load_settings
    from mesh_core.tokens import make_local_key

    path = load_settings().stack_path
    stack.start(path)
    make_local_key(path)
    _show(as_json)


def down() -> None:
    """Stop both in order; their data stays.

    Example: mesh stack down
    """
    from mesh_core import stack
    from mesh_core.settings import load_settings

    stack.stop(load_settings().stack_path)
    typer.echo("Kafka and Postgres are stopped; their data stays.")


def status(
    as_json: Json = False,
    url: Annotated[
        bool, typer.Option("--url", help="Print the database URL alone, password included.")
    ] = False,
) -> None:
    """Say what runs and where; exit status 1 unless both do.

    Example: psql "$(mesh stack status --url)"
    """
    from mesh_core import stack
    from mesh_core.settings import load_settings

    if not url:
        raise typer.Exit(0 if _show(as_json) else 1)
    running = stack.addresses(load_settings().stack_path)
    if running is None:
        raise stack.StackNotRunning(remedy="Start it: mesh stack up.")
    typer.echo(running.database_url)


def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop both and forget their data.

    Example: mesh stack reset --yes
    """
    from mesh_core import stack
    from mesh_core.settings import load_settings

    path = load_settings().stack_path
    if not yes:
        typer.confirm(f"Forget every event and every row in {path}?", abort=True)
    stack.reset(path)
    typer.echo("Kafka and Postgres are stopped, and their data is gone.")


def _show(as_json: bool) -> bool:
    from mesh_core import stack
    from mesh_core.settings import load_settings

    services = stack.status(load_settings().stack_path)
    if as_json:
        print_json([asdict(service) for service in services])
    else:
        rows = [
            [
                service.name,
                "running" if service.running else "stopped",
                service.address,
                service.pid,
                service.folder,
            ]
            for service in services
        ]
        print_table(["service", "state", "address", "pid", "folder"], rows)
    return all(service.running for service in services)
