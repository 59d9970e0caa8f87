"""What becomes of replayed rows: a file, a table of a private schema, or Arrow batches.

Rows leave Postgres as CSV, which Arrow parses a block at a time, so memory is bounded whatever the view's size: it is
several times as fast as values that Python would have to touch. Numbers stay exact: a numeric becomes a decimal of as many
digits after the point as its longest value has.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import Copy, sql
from psycopg.errors import DependentObjectsStillExist, NumericValueOutOfRange

from mesh_core.engine.replay.errors import ReplayRefused
from mesh_core.engine.replay.making import Replayed
from mesh_core.errors import UsageError
from mesh_core.extras import arrow, duckdb
from mesh_core.model.identifiers import name_problem
from mesh_core.model.view_model import ViewColumn
from mesh_core.store.schemas import CONTROL, DATA, READ
from mesh_core.store.tables import columns_sql, physical, quote

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 8 * 2**20
"""Bytes that are parsed at once; no row may be longer."""
MEMORY = "512MB"
"""What DuckDB may take to write a table."""
FILES = (".parquet", ".csv", ".duckdb")
_MADE = "replayed by Flexmesh"
"""How the comment of a table begins that may be replaced."""


def check_file(path: Path) -> None:
    """See that rows can be written there. Raises UsageError."""
    if path.suffix not in FILES:
        raise UsageError(
            f"{path} has no ending that says how to write it.", remedy=f"Name it …{', …'.join(FILES)}."
        )
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", remedy="Make it first.")
    if path.suffix != ".csv":
        arrow()
    if path.suffix == ".duckdb":
        duckdb()


def check_schema(name: str) -> None:
    """See that a schema may have this name. Raises UsageError."""
    if (problem := name_problem(name)) is not None:
        raise UsageError(f"{problem}.", remedy="Name the schema so.")
    if name in (CONTROL, DATA, READ, "public", "information_schema") or name.startswith("pg_"):
        raise UsageError(f"The schema {name} is not a private one.", remedy="Name another.")


def write_file(replayed: Replayed, path: Path) -> None:
    """Write the rows, in order of their key, to a file that is there only once it is whole; what was there is replaced.

    Of a DuckDB file, only the view's table is replaced. Raises UsageError for an ending that says no format, and OSError.
    """
    check_file(path)
    match path.suffix:
        case ".csv":
            with _whole(path) as part, part.open("wb") as file, _csv(replayed, _plain(replayed)) as copy:
                for block in copy:
                    file.write(block)
        case ".parquet":
            with _translated(path):
                _write_parquet(replayed, path)
        case _:
            was_there = path.exists()
            try:
                with _translated(path):
                    _write_duckdb(replayed, path)
            except BaseException:
                if not was_there:
                    path.unlink(missing_ok=True)
                raise


def move_to_schema(replayed: Replayed, schema: str) -> str:
    """Make the rows a table of this schema, which is made if it is missing; the table's name.

    A table that an earlier replay made is replaced. Raises ReplayRefused where there is another of that name.
    """
    check_schema(schema)
    name, connection = replayed.view.name, replayed.connection
    place = f"{quote(schema)}.{quote(name)}"
    said = f"{_MADE}: {name} as of {replayed.position.to_header()}"
    with connection.transaction():
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        there = connection.execute(
            "SELECT relkind = 'r' AND coalesce(obj_description(oid, 'pg_class'), '') LIKE %s FROM pg_class "
            "WHERE oid = to_regclass(%s)",
            (f"{_MADE}%", place),
        ).fetchone()
        if there is not None and not there[0]:
            raise ReplayRefused(
                f"{schema}.{name} is there already, and no replay made it.",
                remedy="Drop it, or name another schema.",
            )
        try:
            connection.execute(f"DROP TABLE IF EXISTS {place}")
        except DependentObjectsStillExist as error:
            raise ReplayRefused(
                f"{schema}.{name} is read by what is not of the mesh: {error.diag.message_detail}.",
                remedy="Drop that, or name another schema.",
            ) from error
        table = physical(replayed.relation)
        connection.execute(f"DROP POLICY IF EXISTS ruled ON {table}")
        connection.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        connection.execute(f"REVOKE ALL ON {table} FROM mesh_ruled")
        connection.execute(f"ALTER TABLE {table} SET SCHEMA {quote(schema)}")
        connection.execute(f"ALTER TABLE {quote(schema)}.{quote(replayed.relation)} RENAME TO {quote(name)}")
        indexes = connection.execute(
            "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = %s::regclass",
            (place,),
        ).fetchall()
        for (index,) in indexes:
            plain = index.removeprefix(replayed.relation.removesuffix(name))
            connection.execute(f"ALTER INDEX {quote(schema)}.{quote(index)} RENAME TO {quote(plain)}")
        connection.execute(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(schema, name), sql.Literal(said))
        )
    return f"{schema}.{name}"


# ---- Arrow


@contextmanager
def batches(replayed: Replayed) -> Iterator[pa.RecordBatchReader]:
    """The rows in order of their key, as Arrow record batches. They are read as they are asked for."""
    pa = arrow()
    from pyarrow import csv

    digits = _digits(replayed)
    fields = [_field(column, digits) for column in replayed.view.columns]
    meta = {"flexmesh.view": replayed.view.name, "flexmesh.position": replayed.position.to_header()}
    schema = pa.schema(fields, metadata=meta)
    # Arrow's parser knows no decimals of more than 38 digits; they are cast from text.
    parsed = {field.name: _parsed(field.type) for field in fields}
    with _csv(replayed, _micros(replayed)) as copy:
        reader = csv.open_csv(
            # Postgres gives a row at a time; parsed alone each would take a millisecond.
            pa.PythonFile(io.BufferedReader(_Blocks(copy), BLOCK), mode="r"),
            read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=parsed,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
        yield pa.RecordBatchReader.from_batches(schema, (_cast(batch, schema) for batch in reader))


def _parsed(kind: pa.DataType) -> pa.DataType:
    """As what a column is parsed that is cast to `kind`."""
    types = arrow().types
    if types.is_decimal256(kind):
        return arrow().string()
    return arrow().int64() if types.is_timestamp(kind) else kind


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    pa = arrow()
    columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _field(column: ViewColumn, digits: Mapping[str, tuple[int, int]]) -> pa.Field:
    pa = arrow()
    kinds = {
        "int": pa.int64(),
        "text": pa.string(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "timestamptz": pa.timestamp("us", "UTC"),
        "date": pa.date32(),
        "uuid": pa.string(),
        "json": pa.string(),
    }
    kind = _decimal(column, *digits[column.name]) if column.name in digits else kinds[column.type.kind]
    return pa.field(column.name, kind, nullable=column.type.nullable)


def _digits(replayed: Replayed) -> dict[str, tuple[int, int]]:
    """Of each numeric column the most digits before the point, and after it, of any value: by one look at the table."""
    columns = [column for column in replayed.view.columns if column.type.kind == "numeric"]
    if not columns:
        return {}
    asked = ", ".join(
        f"coalesce(max(length(trunc(abs({name}))::text)), 1), coalesce(max(scale({name})), 0)"
        for name in (quote(column.name) for column in columns)
    )
    row = replayed.connection.execute(f"SELECT {asked} FROM {physical(replayed.relation)}").fetchone()
    assert row is not None
    return {column.name: (row[2 * n], row[2 * n + 1]) for n, column in enumerate(columns)}


def _decimal(column: ViewColumn, whole: int, scale: int) -> pa.DataType:
    """A decimal that has room for every value of the column, digits after the point included."""
    pa, scale = arrow(), max(scale, column.type.scale or 0)
    if scale + whole <= 38:
        return pa.decimal128(38, scale)
    if scale + whole <= 76:
        return pa.decimal256(76, scale)
    raise _no_room(
        f"{column.name} has a number of {scale + whole} digits, which no decimal of Arrow has room for"
    )


def _no_room(why: str) -> ReplayRefused:
    return ReplayRefused(f"{why}.", remedy="Write CSV, or a private schema.")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Values that a format has no room for are told in a sentence."""
    pa = arrow()
    try:
        yield
    except (pa.ArrowException, NumericValueOutOfRange) as error:
        raise _no_room(f"{path} cannot have these rows: {str(error).splitlines()[0].rstrip('.')}") from error


class _Blocks(io.RawIOBase):
    """A COPY as a file that is read once."""

    def __init__(self, copy: Copy) -> None:
        self._blocks, self._rest = iter(copy), memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Bytes that there are, at most as many as fit; 0 at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@contextmanager
def _csv(replayed: Replayed, columns: Sequence[str]) -> Iterator[Copy]:
    key = columns_sql(replayed.view.key, "t")
    with replayed.connection.cursor() as cursor:
        select = f"SELECT {', '.join(columns)} FROM {physical(replayed.relation)} t ORDER BY {key}"
        with cursor.copy(f"COPY ({select}) TO STDOUT (FORMAT csv, HEADER)") as copy:
            yield copy


def _plain(replayed: Replayed) -> Sequence[str]:
    return [f"t.{quote(column.name)}" for column in replayed.view.columns]


def _micros(replayed: Replayed) -> Sequence[str]:
    """Times as microseconds since 1970, which need no parsing."""
    return [
        f"(extract(epoch FROM t.{quote(column.name)}) * 1000000)::int8 AS {quote(column.name)}"
        if column.type.kind == "timestamptz"
        else f"t.{quote(column.name)}"
        for column in replayed.view.columns
    ]


# ---- files


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place once it is whole. Raises UsageError while somebody else writes it."""
    part = path.with_name(f".{path.name}.part")
    with part.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another replay writes {path}.", remedy="Wait for it, or name another."
            ) from None
        try:
            yield part
            os.fsync(held.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def _write_parquet(replayed: Replayed, path: Path) -> None:
    from pyarrow import parquet

    with (
        _whole(path) as part,
        batches(replayed) as reader,
        parquet.ParquetWriter(part, reader.schema, compression="zstd") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)


def _write_duckdb(replayed: Replayed, path: Path) -> None:
    """Replace the view's table in a DuckDB file, in one transaction; a file that is no database is refused."""
    db = duckdb()
    json = [column.name for column in replayed.view.columns if column.type.kind == "json"]
    uuid = [column.name for column in replayed.view.columns if column.type.kind == "uuid"]
    casts = [f"{quote(name)}::JSON AS {quote(name)}" for name in json]
    casts += [f"{quote(name)}::UUID AS {quote(name)}" for name in uuid]
    chosen = f"* REPLACE ({', '.join(casts)})" if casts else "*"
    try:
        database = db.connect(str(path))
    except db.Error as error:
        raise UsageError(
            f"{path} cannot be opened by DuckDB: {error}.", remedy="Name another file."
        ) from error
    with database, batches(replayed) as reader:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(f"SET memory_limit = '{MEMORY}'")
        if any(arrow().types.is_decimal256(field.type) for field in reader.schema):
            raise _no_room(f"{path} cannot have a number of more than 38 digits")
        database.register("replayed_batches", reader)
        name = quote(replayed.view.name)
        said = f"{_MADE}: as of {replayed.position.to_header()}".replace("'", "''")
        try:
            database.execute("BEGIN")
            database.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT {chosen} FROM replayed_batches")
            database.execute(f"COMMENT ON TABLE {name} IS '{said}'")
            database.execute("COMMIT")
        except db.Error as error:
            raise _no_room(
                f"{path} cannot have these rows: {str(error).splitlines()[0].rstrip('.')}"
            ) from error
