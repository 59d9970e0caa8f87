"""How straight scripts write: lines of COPY into a temporary table, and offsets beside the rows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psycopg

from bench.floor.consuming import Consume, consumer

Connection = psycopg.Connection
CHECKPOINT = (
    "CREATE TABLE checkpoint (topic text, partition int, next_offset bigint, PRIMARY KEY (topic, partition))"
)
PROGRESS = "SELECT coalesce(sum(next_offset), 0) FROM checkpoint"
"""How many events are in the tables for good."""
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def text(value: str) -> str:
    """As COPY wants it."""
    return value.translate(_ESCAPED)


def copy(cursor: psycopg.Cursor, table: str, lines: Iterable[str]) -> None:
    """Adds rows, one a line."""
    with cursor.copy(f"COPY {table} FROM STDIN") as stream:
        stream.write("".join(lines))


def save(cursor: psycopg.Cursor, offsets: Mapping[tuple[str, int], int]) -> None:
    """Notes what has been read."""
    cursor.executemany(
        "INSERT INTO checkpoint VALUES (%s, %s, %s) "
        "ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
        [(*part, offset) for part, offset in offsets.items()],
    )


def script(prepare: Callable[[Connection], None], project: Callable[[Connection, Consume], None]) -> None:
    """The main of a script: makes tables if told `prepare`, else notes the time and projects what it consumes.

    Reads `MESH_DATABASE_URL`, `BENCH_BEGAN`.
    """
    with psycopg.connect(os.environ["MESH_DATABASE_URL"]) as connection:
        if sys.argv[1:] == ["prepare"]:
            prepare(connection)
            return
        consume = consumer()
        Path(os.environ["BENCH_BEGAN"]).write_text(str(time.time()))
        project(connection, consume)
