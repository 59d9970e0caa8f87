"""Connections that reads run on: as a role that can read what answers are made of, and nothing else."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import errors as postgres

from mesh_core.read.errors import NotMigrated, ReadUnavailable

Row = tuple[Any, ...]
ROLE_OF_READS = "mesh_reader"


class Connection(psycopg.AsyncConnection[Row]):
    """A connection of the pool; `is_reader` once it runs as the role that reads run as."""

    is_reader = False


async def become_reader(connection: Connection) -> None:
    """Let a connection read what answers are made of, and nothing else; none is used before.

    Raises NotMigrated where there is no such role yet, ReadUnavailable where the login may not take it.
    """
    try:
        await connection.execute(f"SET ROLE {ROLE_OF_READS}".encode())
    except postgres.InvalidParameterValue:
        raise NotMigrated(remedy="Run mesh migrate, then mesh deploy.") from None
    except postgres.InsufficientPrivilege:
        login = connection.info.user
        raise ReadUnavailable(
            f"The login {login} may not take the role {ROLE_OF_READS}, which reads run as.",
            remedy=f"As a superuser: GRANT mesh_reader, mesh_ruled TO {login} WITH SET TRUE, INHERIT FALSE;",
        ) from None
    connection.is_reader = True
