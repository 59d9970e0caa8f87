"""`mesh`: gathers the command groups, and turns an error into one line and an exit status."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from mesh_core.errors import MeshError

COMMANDS = (
    "demo",
    "stack",
    "database",
    "deploy",
    "projector",
    "serve",
    "relay",
    "token",
    "status",
    "check",
    "events",
    "replay",
    "contracts",
    "workflow",
    "client",
    "history",
    "dead_letters",
    "scaffold",
    "bench",
)
"""The modules of this package that register commands, in the order of `mesh --help`."""


class _Group(TyperGroup):
    """The root of all commands. Says what is wrong with a value without the words of the library that found it."""

    def invoke(self, ctx: Any) -> Any:  # typer names the type of it in private
        """Run the command that `ctx` names. Raises BadParameter."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


def create_app() -> typer.Typer:
    """The whole command line, from the modules in COMMANDS."""
    app = typer.Typer(
        name="mesh",
        cls=_Group,
        help="A data mesh: events on Kafka become joined read models in Postgres.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    for name in COMMANDS:
        importlib.import_module(f"mesh_core.cli.{name}").register(app)
    return app


def main() -> None:
    """Runs it and exits: 0 done, 1 the answer is no, 2 wrong use, 3 a dependency is unavailable."""
    try:
        create_app()(prog_name="mesh")
    except MeshError as error:
        _say(error)
    except ModuleNotFoundError as error:
        from mesh_core.extras import missing

        if (lacking := missing(error)) is None:
            raise
        _say(lacking)
    except Exception as error:
        from mesh_core.read.failures import as_mesh_error

        known = as_mesh_error(error)
        if known is None:
            raise
        _say(known)


def _say(error: MeshError) -> NoReturn:
    typer.echo(f"mesh: {error}", err=True)
    sys.exit(error.exit_status)
