"""An indexed page costs the same in a view of ten thousand rows and in one of five million, first or last."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from time import perf_counter

import psycopg
import pytest

from mesh_core.read.compiler import Statement, list_statement
from mesh_core.read.grammar import Paging, list_query
from mesh_core.read.queries import Place
from mesh_core.read.versions import LOAD, live_from
from mesh_core.store.tables import add_key
from tests.read.declarations import add_version, deploy_by_hand, orders
from tests.support.services import Services, fresh_database

SMALL, LARGE = 10_000, 5_000_000
PAGING = Paging(50, 1000, b"a key for cursors")
FILL = """
INSERT INTO data.{relation} (order_id, customer, total, weight, express, placed_at, shipment_count)
SELECT n, 'C' || n % 1000, n % 100000, n % 50, n % 2 = 0, timestamptz '2026-01-01Z' + n * interval '1 s', 0
FROM generate_series(1, {rows}) AS n
"""


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with fresh_database(services.database_url) as url:
        deploy_by_hand(url)
        with psycopg.connect(url, autocommit=True) as connection:
            for name, rows in (("small", SMALL), ("large", LARGE)):
                model = replace(orders.model, name=name, indexes=(("total", "customer"),))
                add_version(connection, model, ["sales.events"])
                connection.execute(FILL.format(relation=f"{name}__1", rows=rows))
                add_key(connection, model, f"{name}__1")
            connection.execute("VACUUM")
        yield url


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("order", ["order_id", "total.desc,customer.desc"])
def test_the_cost_of_a_page_is_level(url: str, order: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        views = live_from(connection.execute(LOAD).fetchall()).views

        def timed(statements: list[Statement]) -> list[float]:
            """Milliseconds of each, turn by turn, so that what else the machine does harms all alike."""
            taken: list[list[float]] = [[] for _ in statements]
            for _ in range(300):
                for statement, found in zip(statements, taken, strict=True):
                    began = perf_counter()
                    connection.execute(statement.text, statement.parameters).fetchall()
                    found.append(1000 * (perf_counter() - began))
            return [median(each) for each in taken]

        pages: list[Statement] = []
        for name in ("small", "large"):
            query = list_query(views[name], [("order", order)], PAGING)
            backwards = tuple(
                replace(part, descending=not part.descending, nulls_first=not part.nulls_first)
                for part in query.order
            )
            first = list_statement(query)
            end = list_statement(replace(query, order=backwards))
            row = connection.execute(end.text, end.parameters).fetchone()
            assert row is not None
            last = list_statement(replace(query, place=Place(tuple(json.loads(row[6])), backwards=False)))
            assert len(json.loads(connection.execute(last.text, last.parameters).fetchall()[0][3])) == 49
            pages += [first, last]
        first_small, last_small, first_large, last_large = timed(pages)
    told = f"first {first_small:.2f} to {first_large:.2f} ms, last {last_small:.2f} to {last_large:.2f} ms"
    logging.getLogger(__name__).info("%s: %s", order, told)
    assert first_large < 1.3 * first_small, told
    assert last_large < 1.3 * last_small, told
