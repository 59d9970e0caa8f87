"""Brings the control schema to its newest revision. Safe when several do it at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from mesh_core.errors import MeshError
from mesh_core.store.schemas import CONTROL

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
LOCK = 0x6D657368  # "mesh"; a session lock, so that a second migrator waits and then finds nothing to do


class MigrationFailed(MeshError):
    """The control schema did not reach the newest revision."""


def migrate(database_url: str) -> str:
    """The revision after migrating. Raises MigrationFailed if it is not the newest known here."""
    engine = create_engine(database_url, poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    newest = newest_revision()
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        try:
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {CONTROL}"))
            connection.commit()  # an open transaction would roll the migration back with it
            reached = current_revision(connection)
            if reached != newest:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
                reached = current_revision(connection)
            connection.commit()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
            connection.commit()
    if reached != newest:
        raise MigrationFailed(
            f"The control schema is at {reached}, not {newest}.", remedy="Run mesh migrate again."
        )
    return str(reached)


@cache
def newest_revision() -> str | None:
    """The revision that the control schema should have."""
    return ScriptDirectory(str(SCRIPTS)).get_current_head()


def current_revision(connection: object) -> str | None:
    """The revision that a SQLAlchemy connection's database is at; None before the first."""
    context = MigrationContext.configure(connection, opts={"version_table_schema": CONTROL})  # type: ignore[arg-type]
    return context.get_current_revision()
