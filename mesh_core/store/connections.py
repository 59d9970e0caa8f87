"""Opens the engine's connections to Postgres, all alike."""

from __future__ import annotations

from typing import Any

import psycopg

OPTIONS = "-c TimeZone=UTC -c DateStyle=ISO -c jit=off"
"""Times inside JSON are written in the session's zone, so that must be the same everywhere; compiling costs
more than it gains on statements that touch few rows."""


def connect(database_url: str, name: str) -> psycopg.Connection[Any]:
    """A connection in autocommit mode, known to Postgres as `name`. Raises psycopg.OperationalError."""
    return psycopg.connect(database_url, autocommit=True, application_name=name, options=OPTIONS)
