"""Temporary tables: what goes in comes out the same either way, and nothing is left at the end."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest

from mesh_core.store.connections import connect, in_pipeline, rows_written, transaction
from mesh_core.store.scratch import DEAD, Scratch, table

EAST = timezone(timedelta(hours=5))
VALUES: dict[str, list[Any]] = {
    "int8": [0, -(2**63), 2**63 - 1, None],
    "text": ["", 'a,b"{}\\NULL', "NULL", "été \U0001f600", None],
    "numeric": [Decimal("1.10"), Decimal("-1E+30"), 7, None],
    "float8": [1.5, math.inf, -0.0, None],
    "bool": [True, False, None],
    "timestamptz": [datetime(2020, 1, 1, 12, tzinfo=EAST), datetime(2020, 1, 1, 12, 0, 0, 1, UTC), None],
    "date": [date(1, 1, 1), date(9999, 12, 31), None],
    "uuid": [UUID(int=0), UUID(int=2**128 - 1), None],
    "int4": [1, -(2**31), None],
}


def kept(connection: psycopg.Connection[Any], *columns: str) -> None:
    for statement in table("kept", columns):
        connection.execute(statement)


def count(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def failing(connection: psycopg.Connection[Any], scratch: Scratch, *, pipelined: bool) -> None:
    with transaction(connection, pipelined=pipelined) as cursor:
        scratch.put(cursor, "kept", ["int4"], [[1]])
        cursor.execute("SELECT 1 / 0")
        cursor.execute("SELECT n FROM kept")


@pytest.mark.parametrize("kind", VALUES)
def test_arrays_and_copy_put_the_same(database_url: str, kind: str) -> None:
    values, found = VALUES[kind], []
    with connect(database_url, "test") as connection:
        kept(connection, "n int4", f"value {kind}")
        for pipelined in (False, True):
            scratch = Scratch()
            with transaction(connection, pipelined=pipelined) as cursor:
                assert in_pipeline(cursor) == pipelined
                scratch.put(cursor, "kept", ["int4", kind], list(enumerate(values)))
                found.append(
                    connection.execute("SELECT n, value, value::text FROM kept ORDER BY n").fetchall()
                )
                scratch.empty(cursor)
            assert count(connection) == 0
    assert found[0] == found[1]
    assert [value for _, value, _ in found[0]] == values


def test_few_rows_are_deleted_and_many_truncated(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        kept(connection, "n int4")
        scratch, files = Scratch(), []
        for rows in (DEAD - 1, 1, 1, 10 * DEAD, 1):
            with transaction(connection) as cursor:
                scratch.put(cursor, "kept", ["int4"], [[n] for n in range(rows)])
                scratch.empty(cursor)
            files.append(connection.execute("SELECT pg_relation_filenode('kept')").fetchone())
            assert count(connection) == 0
        # A truncated table has another file, and is known to be empty, as if it had just been analysed.
        changed = [before != after for before, after in pairwise(files)]
        assert changed == [False, True, True, False]
        assert connection.execute("SELECT reltuples FROM pg_class WHERE relname = 'kept'").fetchone() == (0,)


@pytest.mark.parametrize("pipelined", [False, True])
def test_what_a_transaction_undid_does_no_harm_to_the_next(database_url: str, *, pipelined: bool) -> None:
    with connect(database_url, "test") as connection:
        kept(connection, "n int4")
        scratch = Scratch()
        for _ in range(8):  # until statements are prepared
            with pytest.raises(psycopg.errors.DivisionByZero):
                failing(connection, scratch, pipelined=pipelined)
            with transaction(connection, pipelined=pipelined) as cursor:
                scratch.put(cursor, "kept", ["int4"], [[2]])
                assert connection.execute("SELECT n FROM kept").fetchall() == [(2,)]
                scratch.empty(cursor)


def test_in_a_pipeline_answers_are_told_apart_however_early_they_come(database_url: str) -> None:
    """Postgres sends what it has as soon as it has something to notice."""
    with connect(database_url, "test") as connection:
        connection.execute("CREATE TABLE numbers (n int)")
        for _ in range(8):
            with transaction(connection, pipelined=True) as cursor:
                cursor.execute("DO $$ BEGIN RAISE NOTICE 'well'; END $$")
                inserting = connection.execute("INSERT INTO numbers SELECT generate_series(1, 3)")
                cursor.execute("DO $$ BEGIN RAISE NOTICE 'well'; END $$")
                assert rows_written(inserting) == 3
                assert connection.execute("SELECT 42").fetchone() == (42,)
