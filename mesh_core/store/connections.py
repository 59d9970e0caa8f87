"""The engine's connections to Postgres, all opened alike, and its transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus

from mesh_core.telemetry import stage

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


@contextmanager
def transaction(
    connection: psycopg.Connection[Any], *, pipelined: bool = False
) -> Iterator[psycopg.Cursor[Any]]:
    """BEGIN, and COMMIT as a stage of its own; ROLLBACK if anything is raised.

    Where it is `pipelined`, only answers are waited for. So there is no COPY; what is asked needs a cursor of its own
    (`connection.execute`), for on a shared one the answer before it may come late; and `rows_written` tells what was
    written.
    """
    try:
        with ExitStack() as pipeline, connection.cursor() as cursor:
            if pipelined:
                pipeline.enter_context(connection.pipeline())
            cursor.execute("BEGIN")
            yield cursor
            with stage("commit"):
                cursor.execute("COMMIT")
                pipeline.close()  # which waits for all that was sent
    except BaseException:
        if not connection.broken:
            connection.rollback()  # forgets what is prepared, too: that may have been skipped with the rest of a pipeline
        raise


def in_pipeline(cursor: psycopg.Cursor[Any]) -> bool:
    """Whether statements are sent without waiting for what the ones before them come to."""
    return cursor.connection.pgconn.pipeline_status != PipelineStatus.OFF


def rows_written(cursor: psycopg.Cursor[Any]) -> int:
    """How many rows the last statement of `cursor` wrote, which a pipeline has to be waited for to know."""
    if in_pipeline(cursor) and cursor.rowcount < 0:
        cursor.connection.execute("SELECT").fetchone()  # answers come in order
    return cursor.rowcount
