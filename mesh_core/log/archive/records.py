"""Records as columns of Parquet: exactly what Kafka had, and beside it what analysts ask for, where it can be read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mesh_core.extras import arrow
from mesh_core.log.archive.manifest import File, damaged
from mesh_core.log.cloudevents import is_binary
from mesh_core.log.interface import Chunk, Headers
from mesh_core.log.position import TopicPartition

if TYPE_CHECKING:
    import pyarrow as pa

_RECORD = ("offset", "timestamp", "key", "value", "headers")
"""The columns that are what Kafka had."""
ATTRIBUTES = ("id", "type", "source", "subject", "time", "workflowid")
"""Attributes of events that have columns of their own, as texts; null where a record is no CloudEvent."""


def schema() -> pa.Schema:
    """The columns of a file; `timestamp` is in milliseconds since 1970, as Kafka has it."""
    pa = arrow()
    header = pa.struct([pa.field("name", pa.string(), False), pa.field("value", pa.binary())])
    return pa.schema(
        [
            pa.field("offset", pa.int64(), False),
            pa.field("timestamp", pa.int64(), False),
            pa.field("key", pa.binary()),
            pa.field("value", pa.binary()),
            pa.field("headers", pa.list_(header), False),
            *(pa.field(name, pa.string()) for name in ATTRIBUTES),
        ]
    )


def batch_of(chunk: Chunk) -> pa.RecordBatch:
    """The records of a chunk."""
    pa, kinds = arrow(), schema()
    headers = chunk.headers or [()] * len(chunk.offsets)
    attributes = [attributes_of(each, value) for each, value in zip(headers, chunk.values, strict=True)]
    columns = [
        chunk.offsets,
        chunk.timestamps,
        chunk.keys,
        chunk.values,
        [[{"name": name, "value": value} for name, value in each] for each in headers],
        *([each.get(name) for each in attributes] for name in ATTRIBUTES),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=kinds)


class _Event(msgspec.Struct):
    """What is looked at of an event; nothing else of it is built."""

    specversion: Any = None
    id: Any = None
    type: Any = None
    source: Any = None
    subject: Any = None
    time: Any = None
    workflowid: Any = None


_event = msgspec.json.Decoder(_Event)


def attributes_of(headers: Headers, value: bytes | None) -> dict[str, str]:
    """The attributes of a CloudEvent that are texts; none of a record that is no event."""
    if is_binary(headers):
        return {
            name[3:]: raw.decode("utf-8", "replace")
            for name, raw in headers
            if name.startswith("ce_") and raw is not None
        }
    try:
        event = _event.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if event.specversion is None:
        return {}
    return {name: text for name in ATTRIBUTES if isinstance(text := getattr(event, name), str)}


def chunks_of(folder: Path, topic: str, file: File, begin: int) -> Iterator[Chunk]:
    """The records of a file from offset `begin` on, a row group in each chunk. Raises ArchiveDamaged.

    Row groups before `begin` are passed over unread. What is read is compared with Parquet's checksums of its pages.
    """
    pa = arrow()
    from pyarrow import parquet

    path, at = folder / file.name, TopicPartition(topic, file.partition)
    try:
        if (size := path.stat().st_size) != file.bytes:
            raise damaged(path, f"it has {size} bytes, not {file.bytes}")
        with parquet.ParquetFile(path, page_checksum_verification=True) as stream:
            facts = stream.metadata
            if facts.num_rows != file.records:
                raise damaged(path, f"it has {facts.num_rows} records, not {file.records}")
            standing = begin
            for number in range(facts.num_row_groups):
                is_last = number == facts.num_row_groups - 1
                known = facts.row_group(number).column(0).statistics
                if not is_last and known is not None and known.has_min_max and known.max < begin:
                    continue
                table = stream.read_row_group(number, columns=list(_RECORD)).combine_chunks()
                offsets = table.column("offset").to_pylist()
                table = table.slice(first := bisect_left(offsets, begin))
                end = file.next_offset if is_last else offsets[-1] + 1
                keys, values, timestamps = (
                    table.column(name).to_pylist() for name in ("key", "value", "timestamp")
                )
                headers = partial(_headers, table.column("headers"))
                yield Chunk(at, keys, values, offsets[first:], timestamps, headers, end, standing)
                standing = end
            if not facts.num_row_groups:
                yield Chunk(at, [], [], [], [], [], file.next_offset, standing)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error).split("\n")[0]) from error


def _headers(column: pa.ChunkedArray) -> list[Headers]:
    """The headers of each record, [] if none has any."""
    found: list[Headers] = []
    for array in column.chunks:
        flat = array.flatten()
        pairs = list(zip(flat.field("name").to_pylist(), flat.field("value").to_pylist(), strict=True))
        end = 0
        for count in array.value_lengths().to_pylist():
            begin, end = end, end + count
            found.append(tuple(pairs[begin:end]))
    return found if any(found) else []


def parted(chunk: Chunk, count: int) -> tuple[Chunk, Chunk]:
    """The first `count` records of a chunk that has more, and the others."""
    headers, middle = chunk.headers, chunk.offsets[count]

    def part(some: slice, start: int, end: int) -> Chunk:
        columns = (chunk.keys[some], chunk.values[some], chunk.offsets[some], chunk.timestamps[some])
        return Chunk(chunk.partition, *columns, headers[some], end, start)

    return (
        part(slice(count), chunk.start, middle),
        part(slice(count, None), middle, chunk.next_offset),
    )
