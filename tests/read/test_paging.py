"""Paging while others write: a row that nobody touches comes exactly once, whatever happens to those around it."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from mesh_core.model import Catalog, View
from mesh_core.read import Database, Page, Paging, list_rows
from mesh_core.read.database import Reader
from mesh_core.store.tables import add_key
from tests.read.declarations import Line, Order, Shipment, deploy_by_hand

Reading = Callable[[Callable[[Reader], Awaitable[Any]]], Any]
paged = View(
    "paged",
    Order,
    indexes=["total", "weight"],
    order_id=Order.order_id,
    customer=Order.customer,
    total=Order.total,
    weight=Order.weight,
)
FILL = """
INSERT INTO data.paged__1 (order_id, customer, total, weight)
SELECT n, CASE WHEN mod(n, 3) = 0 THEN 'changing' ELSE 'still' END, mod(n, 97), CASE WHEN mod(n, 5) > 0 THEN mod(n, 13) END
FROM generate_series(1, %s) AS n
"""


class Writer(threading.Thread):
    """Moves, deletes and inserts rows that are not `still`, until it is stopped."""

    def __init__(self, url: str, rows: int) -> None:
        super().__init__()
        self.url, self.rows, self.stopped, self.writes = url, rows, threading.Event(), 0

    def run(self) -> None:
        chance = random.Random(7)
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stopped.is_set():
                number = chance.randrange(1, self.rows // 3) * 3
                values = (chance.randrange(97), chance.choice([None, 1, 5, 12]), number)
                kind = chance.randrange(3)
                if kind == 0:
                    connection.execute("DELETE FROM data.paged__1 WHERE order_id = %s", (number,))
                elif kind == 1:
                    connection.execute(
                        "INSERT INTO data.paged__1 (customer, total, weight, order_id) "
                        "VALUES ('changing', %s, %s, %s) ON CONFLICT DO NOTHING",
                        values,
                    )
                else:
                    connection.execute(
                        "UPDATE data.paged__1 SET total = %s, weight = %s WHERE order_id = %s", values
                    )
                self.writes += 1


@pytest.mark.parametrize(
    "order", ["total", "total.desc", "weight.nullsfirst", "weight.desc,total", "order_id"]
)
@pytest.mark.parametrize(
    ("rows", "limit"),
    [(3_000, 100), pytest.param(1_000_000, 1_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
)
def test_rows_that_stay_come_once(database_url: str, order: str, rows: int, limit: int) -> None:
    deploy_by_hand(database_url, Catalog.of(entities=[Order, Line, Shipment], views=[paged]))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FILL, (rows,))
        add_key(connection, paged.model, "paged__1")
    still = {number for number in range(1, rows + 1) if number % 3}
    writer = Writer(database_url, rows)
    writer.start()
    try:
        forwards, backwards = asyncio.run(walk(database_url, order, limit))
    finally:
        writer.stopped.set()
        writer.join()
    assert writer.writes > 20
    for seen in (forwards, backwards):
        assert {number for number in seen if number % 3} == still
        assert all(seen[number] == 1 for number in still)


async def walk(url: str, order: str, limit: int) -> tuple[Counter[int], Counter[int]]:
    """How often each row came, by all pages from the first to the last, and back again."""
    paging = Paging(limit, limit, b"a key for cursors")
    seen: tuple[Counter[int], Counter[int]] = Counter(), Counter()
    async with Database(url, pool_size=1, statement_timeout_seconds=60) as database:

        async def read(cursor: str | None, counted: Counter[int]) -> Page:
            given = [("cursor", cursor)] if cursor else []
            page = await list_rows(database.as_itself, "paged", [("order", order), *given], paging)
            counted.update(row["order_id"] for row in json.loads(page.body))
            return page

        page = await read(None, seen[0])
        while page.next is not None:
            page = await read(page.next, seen[0])
        seen[1].update(row["order_id"] for row in json.loads(page.body))
        while page.prev is not None:
            page = await read(page.prev, seen[1])
    return seen
