"""Opens the engine's connections to Postgres, all alike."""

from __future__ import annotations

from typing import Any

import psycopg

OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO -c jit=off "
    "-c max_parallel_workers_per_gather=0 -c max_parallel_maintenance_workers=0"
)
"""Times inside JSON are written in the session's zone, so that must be the same everywhere; compiling costs
more than it gains on statements that touch few rows. Filling and comparing a view take one core, not all: readers
would wait for the others."""


def connect(database_url: str, name: str) -> psycopg.Connection[Any]:
    """A connection in autocommit mode, known to Postgres as `name`. Raises psycopg.OperationalError."""
    return psycopg.connect(database_url, autocommit=True, application_name=name, options=OPTIONS)
