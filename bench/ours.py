"""Flexmesh itself as a contender: `mesh projector`, with a note of when it began.

The note is taken before the projector connects to anything, so joining its consumer group counts.
`BENCH_PROFILE=FILE` keeps a profile of the projector's main thread, for `python -m pstats FILE`.
"""

from __future__ import annotations

import cProfile
import importlib
import os
import sys
import time
from pathlib import Path

from bench.harness import BEGAN
from mesh_core.cli.main import create_app, main


def run() -> None:
    """Projects until it is terminated."""
    # Starting Python is not consuming; the straight scripts do not count it either.
    for module in ("mesh_core.engine.projector", "mesh_core.cli.surroundings"):
        importlib.import_module(module)
    create_app()
    sys.argv = ["mesh", "projector"]
    Path(os.environ[BEGAN]).write_text(str(time.time()))
    if file := os.environ.get("BENCH_PROFILE"):
        profile = cProfile.Profile()
        try:
            profile.runcall(main)
        finally:
            profile.dump_stats(file)
    else:
        main()


if __name__ == "__main__":
    run()
