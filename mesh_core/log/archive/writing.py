"""One file of an archive while it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_core.extras import arrow
from mesh_core.log.archive.records import attributes_of, batch_of, schema
from mesh_core.log.interface import Chunk

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_RECORDS, GROUP_BYTES = 20_000, 32 * 2**20
"""Records, or bytes of keys and values, from which on a row group is closed: whoever reads has one in memory at once."""


class Writer:
    """Takes the records of one partition; a file without any has no row group."""

    def __init__(self, path: Path, takes: Callable[[Mapping[str, str]], bool] | None) -> None:
        """`takes` says by an event's attributes whether it is wanted; None takes all."""
        from pyarrow import parquet

        self.records = self.size = 0
        self.latest: int | None = None
        """The newest timestamp of a record."""
        self._takes = takes
        self._group: list[pa.RecordBatch] = []
        self._group_records = self._group_size = 0
        # Of what is compressed, zstd notices most damage; of what it cannot compress, only a checksum does.
        self._parquet = parquet.ParquetWriter(path, schema(), compression="zstd", write_page_checksum=True)
        self._open = True

    def add(self, chunk: Chunk, end: int) -> None:
        """Write the records of a chunk that come before `end` and are wanted."""
        headers = chunk.headers
        kept = [
            n
            for n, offset in enumerate(chunk.offsets)
            if offset < end
            and (
                self._takes is None
                or self._takes(attributes_of(headers[n] if headers else (), chunk.values[n]))
            )
        ]
        for first in range(0, len(kept), GROUP_RECORDS):
            self._add(chunk, kept[first : first + GROUP_RECORDS])

    def _add(self, chunk: Chunk, kept: list[int]) -> None:
        taken = Chunk(
            chunk.partition,
            [chunk.keys[n] for n in kept],
            [chunk.values[n] for n in kept],
            [chunk.offsets[n] for n in kept],
            [chunk.timestamps[n] for n in kept],
            [chunk.headers[n] for n in kept] if chunk.headers else [],
            chunk.next_offset,
            chunk.start,
        )
        size = sum(len(content or b"") for content in (*taken.values, *taken.keys))
        if self._group_records + len(kept) > GROUP_RECORDS or self._group_size + size > GROUP_BYTES:
            self._end_group()
        self._group.append(batch_of(taken))
        self._group_records += len(kept)
        self._group_size += size
        self.records += len(kept)
        self.size += size
        newest = max(taken.timestamps)
        self.latest = newest if self.latest is None else max(newest, self.latest)

    def _end_group(self) -> None:
        if self._group:
            self._parquet.write_table(arrow().Table.from_batches(self._group), GROUP_RECORDS)
        self._group, self._group_records, self._group_size = [], 0, 0

    def end(self) -> None:
        """Write what is left, and end the file."""
        self._end_group()
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._open:
            self._open = False
            self._parquet.close()
