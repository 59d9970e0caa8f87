"""A process that tells one history, for whoever must not be kept from other work by it: `python -m` this module.

It reads an Order as one line of JSON from standard input and writes one document to standard output: the history, or the
`error` that it met. It ends when its standard input does, so that it does not outlive whoever asked.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from mesh_core.engine.lineage import lineage
from mesh_core.errors import MeshError
from mesh_core.log.archive import with_archive
from mesh_core.log.config import KafkaConfig
from mesh_core.log.driver import connect
from mesh_core.read.failures import as_mesh_error


@dataclass(frozen=True)
class Order:
    """Which history is wanted, of which mesh; of the log, and its archive, at most about `most` records may be read."""

    database_url: str
    kafka: KafkaConfig
    view: str
    key: str
    most: int
    archive: str | None = None

    def to_line(self) -> bytes:
        """As the process reads it."""
        return msgspec.json.encode(asdict(self)) + b"\n"


def main() -> None:
    """Tell the history that standard input asks for."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        driver = with_archive(connect(order.kafka), None if order.archive is None else Path(order.archive))
        told: object = lineage(order.database_url, driver, order.view, order.key, most=order.most).to_json()
    except Exception as error:
        known = error if isinstance(error, MeshError) else as_mesh_error(error)
        if known is None:
            raise
        told = {"error": {"kind": type(known).__name__, "message": known.args[0], "remedy": known.remedy}}
    sys.stdout.buffer.write(msgspec.json.Encoder(decimal_format="number").encode(told))
    sys.stdout.buffer.flush()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
