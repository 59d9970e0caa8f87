"""Deploys that are asked for over HTTP: recorded at once, done in a thread that no end of the process waits for.

Two at once follow one another, as those of `mesh deploy` do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg

from mesh_core.engine.deploy import deploy
from mesh_core.engine.deploy_report import Topics, Wishes
from mesh_core.errors import DependencyUnavailable
from mesh_core.log.interface import Driver
from mesh_core.model.catalog import Catalog
from mesh_core.store import deploys
from mesh_core.store.connections import connect
from mesh_core.telemetry import get_logger

MOST = 4
"""Deploys of one process that may be under way or wait."""
_log = get_logger(__name__)
_places = threading.BoundedSemaphore(MOST)


class TooManyDeploys(DependencyUnavailable):
    """As many deploys wait as may."""


@dataclass(frozen=True)
class Request:
    """What a deploy works with: see `deploy`. `code` loads what the code declares; `by` asked for it."""

    database_url: str
    code: Callable[[], Catalog]
    driver: Driver
    topics: Topics
    wishes: Wishes
    by: str


def announce(request: Request) -> int:
    """Record the deploy and begin it, in a thread of its own; its number. What comes of it is in its record.

    Raises TooManyDeploys, and psycopg errors.
    """
    if not _places.acquire(blocking=False):
        raise TooManyDeploys(remedy="Wait for one to end: GET /v1/admin/deploys.")
    with ExitStack() as undoing:
        undoing.callback(_places.release)
        connection = connect(request.database_url, "mesh deploy, waiting")
        undoing.callback(connection.close)
        number = deploys.announce(connection, request.by)
        # Not one of a pool: when the process ends it is not waited for, and the next deploy clears up.
        threading.Thread(
            target=_run, args=(request, connection, number), name=f"deploy {number}", daemon=True
        ).start()
        undoing.pop_all()
    return number


def _run(request: Request, connection: psycopg.Connection[Any], number: int) -> None:
    """The thread: `connection` shows as long as it is open that the deploy is not forgotten."""
    try:
        with connection:
            try:
                deploy(
                    request.database_url,
                    request.code(),
                    request.driver,
                    request.topics,
                    wishes=request.wishes,
                    announced=number,
                )
                _log.info("deployed", deploy=number, by=request.by)
            except Exception as error:  # whoever asked for it reads why in the record
                _log.warning("deploy failed", deploy=number, by=request.by, error=str(error))
                deploys.Record(connection, number).fail_unless_ended(error)
    except psycopg.OperationalError as error:
        _log.warning("deploy lost its record", deploy=number, error=str(error).split("\n")[0])
    finally:
        _places.release()
