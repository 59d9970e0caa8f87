"""`mesh migrate`: the control schema."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the command `migrate`."""
    app.command("migrate")(migrate)


def migrate() -> None:
    """Bring the control schema to its newest revision; safe when two do it at once.

    Example: mesh migrate
    """
    from mesh_core import stack
    from mesh_core.settings import load_settings
    from mesh_core.store.migrate import migrate as bring_up

    # Kafka need not be there yet.
    settings = load_settings()
    given = settings.database_url.get_secret_value() if settings.database_url else None
    revision = bring_up(given or stack.resolve(settings).database_url)
    typer.echo(f"The control schema is at revision {revision}.")
