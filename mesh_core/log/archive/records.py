"""Records as columns of Parquet: exactly what Kafka had, and beside it what analysts ask for, where it can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh_core.log.archive.errors import missing_arrow
from mesh_core.log.archive.manifest import File, damaged
from mesh_core.log.cloudevents import is_binary
from mesh_core.log.interface import Chunk, Headers
from mesh_core.log.position import TopicPartition

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 20_000
"""Records of a row group, which are in memory at once."""
ATTRIBUTES = ("id", "type", "source", "subject", "time", "workflowid")
"""Attributes of events that have columns of their own, as texts; null where a record is no CloudEvent."""


def arrow() -> Any:
    """The module. Raises UsageError where it is not installed."""
    try:
        import pyarrow
    except ImportError:
        raise missing_arrow() from None
    return pyarrow


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


def attributes_of(headers: Headers, value: bytes | None) -> dict[str, str]:
    """The attributes of a CloudEvent that are texts; none of a record that is no event."""
    if is_binary(headers):
        return {
            name[3:]: raw.decode("utf-8", "replace")
            for name, raw in headers
            if name.startswith("ce_") and raw is not None
        }
    try:
        event = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(event, dict) or "specversion" not in event:
        return {}
    return {
        name: text.encode("utf-8", "replace").decode()
        for name in ATTRIBUTES
        if isinstance(text := event.get(name), str)
    }


def chunks_of(folder: Path, topic: str, file: File, begin: int) -> Iterator[Chunk]:
    """The records of a file from offset `begin` on, ROWS at most in each chunk. Raises ArchiveDamaged."""
    pa = arrow()
    from pyarrow import parquet

    path, at = folder / file.name, TopicPartition(topic, file.partition)
    try:
        if (size := path.stat().st_size) != file.bytes:
            raise damaged(path, f"it has {size} bytes, not {file.bytes}")
        with parquet.ParquetFile(path) as stream:
            if stream.metadata.num_rows != file.records:
                raise damaged(path, f"it has {stream.metadata.num_rows} records, not {file.records}")
            standing, left = begin, file.records
            for batch in stream.iter_batches(
                ROWS, columns=["offset", "timestamp", "key", "value", "headers"]
            ):
                left -= len(batch)
                offsets, timestamps, keys, values, headers = (column.to_pylist() for column in batch.columns)
                first = next((n for n, offset in enumerate(offsets) if offset >= begin), len(offsets))
                if first == len(offsets) and left:
                    continue
                pairs: list[Headers] = [
                    tuple((each["name"], each["value"]) for each in several) for several in headers[first:]
                ]
                end = offsets[-1] + 1 if left else file.next_offset
                yield Chunk(
                    at,
                    keys[first:],
                    values[first:],
                    offsets[first:],
                    timestamps[first:],
                    pairs if any(pairs) else [],
                    end,
                    standing,
                )
                standing = end
            if not file.records:
                yield Chunk(at, [], [], [], [], [], file.next_offset, standing)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error).split("\n")[0]) from error
