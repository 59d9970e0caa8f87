"""A file lock between processes, freed by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesh_core.stack.errors import StackBusy


@contextmanager
def exclusive(path: Path, timeout_seconds: float = 120.0) -> Iterator[None]:
    """Holds the lock `path` (made if absent) for the block. Raises StackBusy after the time-out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackBusy(
                        f"Another process has held {path} for {timeout_seconds:.0f} seconds.",
                        remedy="Wait for it, or end it, and try again.",
                    ) from None
                time.sleep(0.05)
        yield
