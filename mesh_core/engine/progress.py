"""Says how far a build is, every second, on the way and in the control schema."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg

from mesh_core.engine.deploy_report import Progress
from mesh_core.store import checkpoints
from mesh_core.store.connections import connect
from mesh_core.store.deploys import Record

SECONDS = 1.0


@contextmanager
def watched(
    database_url: str,
    record: Record,
    ids: Sequence[int],
    topics: Sequence[str],
    total: int,
    progress: Progress,
) -> Iterator[None]:
    """While inside, tell how many of `total` records the build of these versions has applied."""
    ended = threading.Event()

    def watch() -> None:
        with suppress(psycopg.OperationalError):  # the build meets it, too
            tell()

    def tell() -> None:
        begun = time.monotonic()
        with connect(database_url, "mesh deploy: progress") as connection:
            own = Record(connection, record.id)
            while not ended.wait(SECONDS):
                found = checkpoints.read(connection, topics, min(ids)).values()
                done = min(total, sum(row.next_offset for row in found))
                own.done(ids, done)
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
