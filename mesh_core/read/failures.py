"""Errors of Postgres itself as errors with a remedy, for whoever does not expect them."""

from __future__ import annotations

import psycopg

from mesh_core.errors import DependencyUnavailable, MeshError
from mesh_core.read.errors import NotMigrated


def as_mesh_error(error: BaseException) -> MeshError | None:
    """What to tell people about an error; None if it is one that nobody foresaw."""
    error = getattr(error, "orig", None) or error  # SQLAlchemy wraps the driver's
    first = str(error).strip().split("\n")[0]
    if isinstance(error, psycopg.errors.UndefinedTable) and 'relation "mesh.' in first:
        return NotMigrated(remedy="Run mesh migrate, then mesh deploy.")
    if isinstance(error, psycopg.OperationalError):
        return DependencyUnavailable(
            f"Postgres cannot be used: {first}.",
            remedy="Check that it runs and that MESH_DATABASE_URL is right.",
        )
    return None
