"""What a page reads does not grow with the view, nor with how far the page is: by the plans, one test a kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from mesh_core.read.compiler import Statement, list_statement, point_statement
from mesh_core.read.grammar import Paging, list_query, point_query
from mesh_core.read.queries import ListQuery, Place
from mesh_core.read.repeated import Repeated
from mesh_core.read.versions import LOAD, Live, live_from
from mesh_core.store.tables import add_key
from tests.read.declarations import add_version, deploy_by_hand, orders
from tests.support.services import Services, fresh_database

ROWS = 100_000
LIMIT = 20
PAGING = Paging(LIMIT, 1000, b"a key for cursors")
# Every other customer is one of ten, weights repeat and are missing in a third.
FILL = f"""
INSERT INTO data.indexed__1 (order_id, customer, total, weight, express, placed_at, due, reference, extra, shipment_count)
SELECT n, CASE WHEN n % 2 = 0 THEN 'C' || n % 10 ELSE 'D' || n END, n % 1000, CASE WHEN n % 3 > 0 THEN n % 50 END,
       n % 2 = 0, timestamptz '2026-01-01Z' + n * interval '1 s', NULL, NULL, NULL, 0
FROM generate_series(1, {ROWS}) AS n
"""

INDEXES = (("customer",), ("total", "customer"), ("weight",), ("express", "placed_at"))
INDEXED = replace(orders.model, name="indexed", indexes=INDEXES)

Found = tuple[psycopg.Connection[Any], Live]


@pytest.fixture(scope="module")
def large(services: Services) -> Iterator[Found]:
    with fresh_database(services.database_url) as url:
        deploy_by_hand(url)
        with psycopg.connect(url, autocommit=True) as connection:
            add_version(connection, INDEXED, ["sales.events"])
            connection.execute(FILL)
            add_key(connection, INDEXED, "indexed__1")
            yield connection, live_from(connection.execute(LOAD).fetchall())


def rows_read(connection: psycopg.Connection[Any], statement: Statement) -> tuple[int, str]:
    """How many rows of the view the statement read, kept or not; and its plan."""
    explain = b"EXPLAIN (ANALYZE, FORMAT JSON, TIMING off) " + statement.text
    row = connection.execute(explain, statement.parameters).fetchone()
    assert row is not None
    text = "\n".join(
        line for (line,) in connection.execute(b"EXPLAIN " + statement.text, statement.parameters).fetchall()
    )

    def count(node: dict[str, Any]) -> int:
        mine = 0
        if node.get("Relation Name") == "indexed__1":
            mine = int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        return mine + sum(map(count, node.get("Plans", ())))

    return count(row[0][0]["Plan"]), text


@pytest.mark.parametrize(
    "order",
    [
        "",
        "order_id.desc",
        "customer",
        "customer.desc",
        "total,customer",
        "total.desc,customer.desc",
        "weight",
        "weight.desc",
        "express,placed_at",
        "express.desc,placed_at.desc",
    ],
)
def test_a_page_in_an_indexed_order_reads_a_page(large: Found, order: str) -> None:
    connection, live = large
    parameters = [("order", order)] if order else []
    query = list_query(live.views["indexed"], parameters, PAGING)
    # From the start, then from some page far inside, both ways, and at the end.
    starts = {"first": "TRUE", "middle": "order_id = 49_998", "no weight": "order_id = 49_999"}
    for name, where in starts.items():
        statements = {name: list_statement(query)}
        if name != "first":
            columns = ", ".join(f'"{part.reference.column}"::text' for part in query.order)
            values = connection.execute(f"SELECT {columns} FROM data.indexed__1 WHERE {where}").fetchone()
            assert values is not None
            statements = {
                f"{name} backwards={backwards}": list_statement(at(query, values, backwards=backwards))
                for backwards in (False, True)
            }
        statements["last"] = list_statement(at(query, last_place(connection, query), backwards=True))
        for what, statement in statements.items():
            read, text = rows_read(connection, statement)
            assert read <= 4 * (LIMIT + 1), f"{what} page by {order or 'key'} reads {read} rows\n{text}"


def last_place(connection: psycopg.Connection[Any], query: ListQuery) -> tuple[str | None, ...]:
    """That of the last row: the first one of the order the other way round."""
    order = tuple(
        replace(part, descending=not part.descending, nulls_first=not part.nulls_first)
        for part in query.order
    )
    statement = list_statement(replace(query, order=order))
    row = connection.execute(statement.text, statement.parameters).fetchone()
    assert row is not None
    return tuple(json.loads(row[5]))


def at(query: ListQuery, values: tuple[str | None, ...], *, backwards: bool) -> ListQuery:
    return replace(query, place=Place(tuple(values), backwards))


@pytest.mark.parametrize(
    ("parameters", "most"),
    [
        ([("customer", "eq.C4"), ("order", "customer")], LIMIT + 1),
        ([("customer", "in.(C4,D7)"), ("order", "customer")], LIMIT + 1),
        ([("order_id", "gt.99000")], LIMIT + 1),
        ([("order_id", "eq.7")], 1),
        ([("total", "eq.7"), ("order", "total,customer")], LIMIT + 1),
        ([("weight", "is.null"), ("order", "weight")], LIMIT + 1),
        ([("customer", "eq.D7"), ("count", "exact")], 2),
    ],
)
def test_a_filter_by_an_index_reads_what_it_keeps(
    large: Found, parameters: list[tuple[str, str]], most: int
) -> None:
    connection, live = large
    read, text = rows_read(connection, list_statement(list_query(live.views["indexed"], parameters, PAGING)))
    assert read <= most, f"{parameters} reads {read} rows\n{text}"


def test_one_row_is_one_row(large: Found) -> None:
    connection, live = large
    assert rows_read(connection, point_statement(point_query(live.views["indexed"], "777")))[0] == 1


def test_reads_that_share_a_statement_read_what_each_would(large: Found) -> None:
    connection, live = large
    version = live.views["indexed"]
    afters = ("100", "50000", "99990")
    parameters = [[("order_id", f"gt.{after}")] for after in afters]
    repeated = Repeated()
    pages = [repeated.statement(version, each, PAGING)[1] for each in parameters]
    rows = [point_statement(point_query(version, key)) for key in afters]
    for statements, most in ((pages, LIMIT + 1), (rows, 1)):
        form = statements[0].form
        assert form is not None
        read, text = rows_read(connection, form.together(statements))
        assert read <= len(statements) * most, text
