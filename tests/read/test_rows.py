"""Rows as clients see them: exact, paged, and never half of a deploy."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from mesh_core.model.identifiers import key_text
from mesh_core.read import Database, Page, list_rows, one_row
from mesh_core.read import errors as refused
from tests.read.declarations import add_version, insert, order, orders

Reading = Callable[[Callable[[Database], Awaitable[Any]]], Any]


def page(
    reading: Reading, view: str, *parameters: tuple[str, str], limit: int = 100
) -> tuple[list[Any], Page]:
    found: Page = reading(lambda database: list_rows(database, view, parameters, limit=limit, limit_max=1000))
    return json.loads(found.body, parse_float=Decimal), found


def test_values_are_exact(deployed_url: str, reading: Reading) -> None:
    insert(
        deployed_url,
        "orders__1",
        order(
            2**63 - 1,
            customer='Ünïcode "quoted"',
            total=Decimal("1234567890123456.0395"),
            weight=0.1,
            express=True,
            placed_at=datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),
            due=date(2026, 2, 1),
            reference=UUID(int=7),
            extra={"a": [1, None, "x"]},
        ),
    )
    answer = reading(lambda database: one_row(database, "orders", str(2**63 - 1)))
    assert '"total":1234567890123456.0395' in answer.body
    assert json.loads(answer.body, parse_float=Decimal) == {
        "order_id": 9223372036854775807,
        "customer": 'Ünïcode "quoted"',
        "total": Decimal("1234567890123456.0395"),
        "weight": Decimal("0.1"),
        "express": True,
        "placed_at": "2026-01-31T12:00:00.123456+00:00",
        "due": "2026-02-01",
        "reference": "00000000-0000-0000-0000-000000000007",
        "extra": {"a": [1, None, "x"]},
        "shipment_count": 0,
    }


def test_a_row_that_is_not_there_and_a_view_that_is_not_there(reading: Reading) -> None:
    with pytest.raises(refused.RowNotFound, match="'7'"):
        reading(lambda database: one_row(database, "orders", "7"))
    with pytest.raises(refused.ViewNotFound, match="Did you mean orders"):
        reading(lambda database: one_row(database, "order", "7"))


@pytest.mark.parametrize("key", ["seven", "7.0", "", str(2**63), "7\0", "\ud800", "7,8"])
def test_a_key_of_another_type_is_refused(reading: Reading, key: str) -> None:
    with pytest.raises(refused.InvalidKey, match="whole number"):
        reading(lambda database: one_row(database, "orders", key))


def test_composite_keys_are_percent_encoded_parts(deployed_url: str, reading: Reading) -> None:
    insert(deployed_url, "lines__1", {"order_code": "a,b/c", "product": "50 % ü", "quantity": 3})
    key = key_text(["a,b/c", "50 % ü"])
    assert json.loads(reading(lambda database: one_row(database, "lines", key)).body)["quantity"] == 3
    with pytest.raises(refused.InvalidKey, match="order_code , product: 2 parts"):
        reading(lambda database: one_row(database, "lines", "a"))


def test_pages_follow_the_key_and_end(deployed_url: str, reading: Reading) -> None:
    rows = [{"order_code": code, "product": p, "quantity": 1} for code in "ba" for p in ("x", "X", "ä", "")]
    insert(deployed_url, "lines__1", *rows)
    seen: list[Any] = []
    parameters: list[tuple[str, str]] = []
    while True:
        found, got = page(reading, "lines", *parameters, limit=3)
        seen += [(row["order_code"], row["product"]) for row in found]
        if got.next is None:
            break
        assert len(found) == 3
        parameters = [("cursor", got.next)]
    expected = [(str(row["order_code"]), str(row["product"])) for row in rows]
    assert seen == sorted(expected, key=lambda key: [part.encode() for part in key])


def test_a_full_last_page_has_no_next(deployed_url: str, reading: Reading) -> None:
    insert(deployed_url, "orders__1", order(1), order(2))
    found, got = page(reading, "orders", limit=2)
    assert ([row["order_id"] for row in found], got.next) == ([1, 2], None)
    found, got = page(reading, "orders", ("order_id", "3"))
    assert (found, got.next) == ([], None)


@pytest.mark.parametrize(
    "parameters",
    [
        [("order_id", "2")],
        [("order_id", "eq.2")],
        [("customer", "eq.eq.x")],
        [("total", "12.50")],
        [("total", "eq.12.5")],
        [("weight", "0.25")],
        [("express", "true")],
        [("placed_at", "2026-01-31T13:00:00+01:00")],
        [("placed_at", "2026-01-31T13:00:00 01:00")],
        [("placed_at", "eq.2026-01-31T12:00:00Z")],
        [("due", "2026-02-01")],
        [("reference", "00000000-0000-0000-0000-000000000007")],
        [("express", "true"), ("customer", "eq.eq.x")],
    ],
)
def test_filters_compare_by_type(
    deployed_url: str, reading: Reading, parameters: list[tuple[str, str]]
) -> None:
    match = order(
        2,
        customer="eq.x",
        total=Decimal("12.50"),
        weight=0.25,
        express=True,
        placed_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        due=date(2026, 2, 1),
        reference=UUID(int=7),
    )
    insert(deployed_url, "orders__1", order(1), match, order(3))
    found, _ = page(reading, "orders", *parameters)
    assert [row["order_id"] for row in found] == [2]


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("custmer", "x", refused.UnknownParameter, "Did you mean customer"),
        ("x\0\ud800", "x", refused.UnknownParameter, "no column"),
        ("order_id", "x", refused.InvalidValue, "order_id cannot be 'x': expected a whole number"),
        ("order_id", str(2**63), refused.InvalidValue, "expected a whole number"),
        ("total", "NaN", refused.InvalidValue, "a decimal number"),
        ("weight", "1e999", refused.InvalidValue, "a number"),
        ("express", "yes", refused.InvalidValue, "true or false"),
        ("placed_at", "2026-01-31T12:00:00", refused.InvalidValue, "with its zone"),
        ("placed_at", "2026-01-31", refused.InvalidValue, "with its zone"),
        ("due", "2026-13-01", refused.InvalidValue, "a date"),
        ("reference", "7", refused.InvalidValue, "a UUID"),
        ("customer", "\0", refused.InvalidValue, "without NUL"),
        ("customer", "\ud800", refused.InvalidValue, "text"),
        ("customer", "x" * 5000, refused.InvalidValue, "text"),
        ("extra", "{}", refused.InvalidValue, "cannot be compared"),
        ("customer", "gt.x", refused.InvalidParameter, "eq.gt."),
        ("select", "customer", refused.UnknownParameter, "not served yet"),
        ("limit", "0", refused.InvalidParameter, "from 1 to 1000"),
        ("limit", "1001", refused.InvalidParameter, "from 1 to 1000"),
        ("limit", "٣", refused.InvalidParameter, "from 1 to 1000"),
        ("cursor", "!", refused.InvalidCursor, "Link header"),
        ("cursor", "bnVsbA", refused.InvalidCursor, "Link header"),
        ("cursor", "WzEsWyJ4Il1d", refused.InvalidCursor, "Link header"),
        ("cursor", "WzEsW11d", refused.InvalidCursor, "Link header"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    reading: Reading, name: str, value: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        page(reading, "orders", (name, value))
    assert isinstance(raised.value, refused.ReadError)
    assert raised.value.remedy
    str(raised.value).encode()  # can be put into JSON and logs


def test_paging_parameters_are_given_once(reading: Reading) -> None:
    with pytest.raises(refused.InvalidParameter, match="limit is given twice"):
        page(reading, "orders", ("limit", "1"), ("limit", "1"))
    with pytest.raises(refused.InvalidParameter, match="21 filters"):
        page(reading, "orders", *[("order_id", "1")] * 21)


def test_a_swap_is_seen_at_once_and_old_cursors_say_so(deployed_url: str, reading: Reading) -> None:
    insert(deployed_url, "orders__1", order(1), order(2))
    _, got = page(reading, "orders", limit=1)
    assert got.next is not None
    narrow = replace(orders.model, columns=tuple(c for c in orders.model.columns if c.name != "weight"))
    with psycopg.connect(deployed_url) as connection:
        add_version(connection, narrow, ["sales.events"])
    insert(deployed_url, "orders__2", order(3))
    with psycopg.connect(deployed_url) as connection:
        connection.execute("DROP TABLE data.orders__1 CASCADE")
    found, _ = page(reading, "orders")
    assert [row["order_id"] for row in found] == [3]
    assert "weight" not in found[0]
    with pytest.raises(refused.CursorExpired, match="version 2 serves now"):
        page(reading, "orders", ("cursor", got.next))


def test_a_view_deployed_later_is_found(deployed_url: str, reading: Reading) -> None:
    with pytest.raises(refused.ViewNotFound):
        page(reading, "late")
    with psycopg.connect(deployed_url) as connection:
        add_version(connection, replace(orders.model, name="late"), ["sales.events"])
    assert page(reading, "late")[0] == []


def test_rows_and_position_are_of_one_snapshot(deployed_url: str, reading: Reading) -> None:
    """A writer moves the row and the checkpoint together; no read may see one without the other."""
    insert(deployed_url, "orders__1", order(1, shipment_count=0))
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(deployed_url) as connection:
            count = 0
            while not stop.is_set():
                count += 1
                connection.execute(
                    "UPDATE mesh.checkpoints SET next_offset = %s "
                    "WHERE topic = 'sales.events' AND partition = 1",
                    (count,),
                )
                connection.execute("UPDATE data.orders__1 SET shipment_count = %s", (count,))
                connection.commit()

    async def read(database: Database) -> set[int]:
        seen = set()
        for _ in range(150):
            one, many = await asyncio.gather(
                one_row(database, "orders", "1"),
                list_rows(database, "orders", (), limit=10, limit_max=10),
            )
            for position, row in (
                (one.position, json.loads(one.body)),
                (many.position, json.loads(many.body)[0]),
            ):
                assert json.loads(position)["sales.events"]["1"] == row["shipment_count"]
                seen.add(row["shipment_count"])
        return seen

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert len(reading(read)) > 10
    finally:
        stop.set()
        writer.join()


def test_a_position_names_the_topics_of_the_view_alone(deployed_url: str, reading: Reading) -> None:
    assert page(reading, "lines")[1].position == '{"sales.events":{"0":0,"1":0}}'
    assert page(reading, "orders")[1].position == (
        '{"logistics.events":{"0":0,"1":0},"sales.events":{"0":0,"1":0}}'
    )
