"""`python -m mesh_core.stack.kafka`: the part of set-up that fetches the local Kafka."""

from __future__ import annotations

import sys

from mesh_core.errors import MeshError
from mesh_core.stack import kafka

if __name__ == "__main__":
    try:
        kafka.prepare(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201  # for who sets up
    except MeshError as error:
        sys.exit(str(error))
