"""Python's garbage collector, while records are read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Collect garbage rarely. What is read is many small objects that live until they are written, in no cycles.

    Collecting among them finds nothing: a build in one process was 1.3 times as fast without. It is a setting of the whole
    process, so only one may be inside at a time.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
