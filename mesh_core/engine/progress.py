"""Says how far a build is, every second, on the way and in the control schema."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from mesh_core.engine.deploy_report import Progress
from mesh_core.store import checkpoints
from mesh_core.store.connections import connect

SECONDS = 1.0


Tell = Callable[[psycopg.Connection[Any], int], None]
"""Records on a connection of its own that so many events are done."""


@contextmanager
def watched(
    database_url: str, build: int, topics: Sequence[str], total: int, progress: Progress, record: Tell
) -> Iterator[None]:
    """While inside, tell and record every second how many of `total` records the build has applied."""
    ended = threading.Event()

    def watch() -> None:
        with suppress(psycopg.OperationalError):  # the build meets it, too
            tell()

    def tell() -> None:
        begun = time.monotonic()
        with connect(database_url, "mesh progress") as connection:
            while not ended.wait(SECONDS):
                found = checkpoints.read(connection, topics, build).values()
                done = min(total, sum(row.next_offset for row in found))
                record(connection, done)
                progress(said(done, total, time.monotonic() - begun))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def said(done: int, total: int, seconds: float) -> str:
    """How far, how fast, how long still."""
    rate = done / seconds
    left = f", {(total - done) / rate:.0f} s left" if rate else ""
    return f"reading: {done:,} of {total:,} events ({done / max(total, 1):.0%}), {rate:,.0f}/s{left}"
