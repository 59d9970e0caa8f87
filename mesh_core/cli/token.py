"""`mesh token`: a token for development."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mesh_core.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("token")(token)


def token(
    role: Annotated[list[str], typer.Option("--role", help="A role that it has; several if repeated.")],
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", help="`name=value`, the value as JSON or else text; repeatable."),
    ] = None,
    subject: Annotated[str, typer.Option(help="Who it is, as `sub`.")] = "developer",
    minutes: Annotated[int, typer.Option(min=1, max=525_600, help="For how long it holds.")] = 60,
) -> None:
    """A token for development, signed with MESH_AUTH_KEY or the key of the local stack.

    Example: curl -H "Authorization: Bearer $(mesh token --role sales)" localhost:8000/v1/views
    """
    from mesh_core.model.grants import role_problem
    from mesh_core.settings import load_settings
    from mesh_core.tokens import development_token

    for name in role:
        if problem := role_problem(name):
            raise UsageError(
                f"No role has this name: {problem}.", remedy="Name one that something is granted to."
            )
    claims = dict(_claim(text) for text in claim or ())
    typer.echo(development_token(load_settings(), role, claims, subject, minutes))


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--claim {text!r} has no value.", remedy="Write --claim customer_id=ALFKI.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
