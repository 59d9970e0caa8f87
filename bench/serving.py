"""Flexmesh's API as a contender: `mesh api` on the port that the environment names.

PORT=8000 python -m bench.serving
"""

from __future__ import annotations

import os
import sys

from mesh_core.cli.main import main

if __name__ == "__main__":
    sys.argv = ["mesh", "api", "--port", os.environ["PORT"]]
    main()
