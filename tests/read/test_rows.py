"""Rows as clients see them: exact, paged, and never half of a deploy."""

from __future__ import annotations

import asyncio
import json
import re
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
from mesh_core.read import Page, Paging, list_rows, one_row
from mesh_core.read import errors as refused
from mesh_core.read.database import Reader
from mesh_core.settings import ROOT
from tests.read.declarations import add_version, insert, order, orders

KEY = b"a key for cursors"
Reading = Callable[[Callable[[Reader], Awaitable[Any]]], Any]


def page(
    reading: Reading, view: str, *parameters: tuple[str, str], limit: int = 100
) -> tuple[list[Any], Page]:
    found: Page = reading(lambda database: list_rows(database, view, parameters, Paging(limit, 1000, KEY)))
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


def test_a_row_that_is_not_there_and_a_view_that_is_not_there(refusing: Reading) -> None:
    with pytest.raises(refused.RowNotFound, match="'7'"):
        refusing(lambda database: one_row(database, "orders", "7"))
    with pytest.raises(refused.ViewNotFound, match="Did you mean orders"):
        refusing(lambda database: one_row(database, "order", "7"))


@pytest.mark.parametrize("key", ["seven", "7.0", "", str(2**63), "7\0", "\ud800", "7,8"])
def test_a_key_of_another_type_is_refused(refusing: Reading, key: str) -> None:
    with pytest.raises(refused.InvalidKey, match="whole number"):
        refusing(lambda database: one_row(database, "orders", key))


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
        ("extra", "{", refused.InvalidValue, "expected JSON"),
        ("extra", '{"a":1e99999}', refused.InvalidValue, "expected JSON"),
        ("extra", '"\\u0000"', refused.InvalidValue, "expected JSON"),
        ("extra", "gt.1", refused.InvalidParameter, "has no order"),
        ("extra", "like.x", refused.InvalidParameter, "->>"),
        ("extra", "in.(1)", refused.InvalidParameter, "->>"),
        ("extra->>a->b", "x", refused.InvalidParameter, "has no places within"),
        ("customer->a", "x", refused.InvalidParameter, "has no places within"),
        ("extra->", "x", refused.InvalidParameter, "not a column or a place in one"),
        ('extra->"\0"', "x", refused.InvalidParameter, "not text that JSON can have"),
        ("customer", "gtt.x", refused.InvalidParameter, "Did you mean gt.*customer=eq.gtt"),
        ("customer", "fts(english).x", refused.InvalidParameter, "no operator"),
        ("customer", "like(any).x", refused.InvalidParameter, "no operator"),
        ("customer", "not.not.eq.x", refused.InvalidParameter, "no operator 'not'"),
        ("customer", "like.x\\", refused.InvalidValue, "ends in a backslash"),
        ("customer", "cs.x", refused.InvalidParameter, "looks into JSON"),
        ("customer", "is.true", refused.InvalidValue, "null, not_null"),
        ("express", "is.maybe", refused.InvalidValue, "unknown"),
        ("order_id", "in.1", refused.InvalidValue, "a list in parentheses"),
        ("order_id", "in.(1,x)", refused.InvalidValue, "order_id cannot be 'x'"),
        ("order_id", "in.(1", refused.InvalidParameter, "cannot be read at its end"),
        ("order_id", "in.(1)2", refused.InvalidParameter, "cannot be read at '2'"),
        ("order_id", f"in.({','.join('1' * 1001)})", refused.InvalidParameter, "more than 1000 values"),
        ("customer", 'in.("x)', refused.InvalidParameter, "not closed"),
        ("or", "customer.eq.x", refused.InvalidParameter, "cannot be read"),
        ("or", "()", refused.UnknownParameter, "no column"),
        ("or", "(customer.eq.x", refused.InvalidParameter, "at its end"),
        ("or", "(customer.eq.x))", refused.InvalidParameter, "cannot be read"),
        ("or", "(custmer.eq.x)", refused.UnknownParameter, "Did you mean customer"),
        ("or", "(customer.x)", refused.InvalidParameter, "has no operator"),
        ("and", "((customer.eq.x))", refused.UnknownParameter, "no column"),
        ("and", "(and" * 9 + "(customer.eq.x)" + ")" * 9, refused.InvalidParameter, "parentheses deep"),
        ("not.xor", "(customer.eq.x)", refused.UnknownParameter, "no column"),
        ("select", "custmer", refused.UnknownParameter, "select: .*Did you mean customer"),
        ("select", "", refused.InvalidParameter, "cannot be read"),
        ("select", "customer,", refused.InvalidParameter, "cannot be read"),
        ("select", "customer,customer", refused.InvalidParameter, "'customer' twice"),
        ("select", "customer::text", refused.InvalidParameter, "not a column or a place in one"),
        ("select", 'extra->"a b"', refused.InvalidParameter, "name:"),
        ("select", "count()", refused.UnknownParameter, "no column"),
        ("select", ",".join(f"c{n}:customer" for n in range(201)), refused.InvalidParameter, "at most 200"),
        ("order", "custmer", refused.UnknownParameter, "order: .*Did you mean customer"),
        ("order", "customer.up", refused.InvalidParameter, "column.asc"),
        ("order", "customer,customer.desc", refused.InvalidParameter, "there twice"),
        ("order", "extra->a", refused.InvalidParameter, "has no order"),
        ("count", "all", refused.InvalidParameter, "exact, planned, estimated"),
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
    refusing: Reading, name: str, value: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        page(refusing, "orders", (name, value))
    assert isinstance(raised.value, refused.ReadError)
    assert raised.value.remedy
    str(raised.value).encode()  # can be put into JSON and logs


def test_paging_parameters_are_given_once(refusing: Reading) -> None:
    with pytest.raises(refused.InvalidParameter, match="limit is given twice"):
        page(refusing, "orders", ("limit", "1"), ("limit", "1"))
    with pytest.raises(refused.InvalidParameter, match="More than 100 conditions"):
        page(refusing, "orders", *[("order_id", "1")] * 101)


def test_cursors_are_of_one_list_in_one_order(deployed_url: str, reading: Reading) -> None:
    insert(deployed_url, "orders__1", order(1), order(2))
    _, got = page(reading, "orders", ("order", "total"), limit=1)
    assert got.next is not None
    with pytest.raises(refused.CursorExpired, match="another order"):
        page(reading, "orders", ("cursor", got.next))
    with pytest.raises(refused.InvalidCursor) as raised:
        page(reading, "lines", ("cursor", got.next))
    assert "It is of 'orders'" in str(raised.value.remedy)
    middle = len(got.next) // 2
    forged = got.next[:middle] + ("A" if got.next[middle] != "A" else "B") + got.next[middle + 1 :]
    for text in (forged, got.next[:-4], got.next + "AAAA", "x" * 9000, "ü"):
        with pytest.raises(refused.InvalidCursor):
            page(reading, "orders", ("order", "total"), ("cursor", text))


@pytest.mark.parametrize("count", ["planned", "estimated"])
def test_counts_that_are_not_exact(deployed_url: str, reading: Reading, count: str) -> None:
    with psycopg.connect(deployed_url) as connection:
        connection.execute(
            "INSERT INTO data.lines__1 SELECT n::text, 'x', n % 2 FROM generate_series(1, 20000) AS n"
        )
        connection.execute("ANALYZE data.lines__1")
    _, got = page(reading, "lines", ("count", count), limit=2)
    assert got.count is not None
    assert 15_000 < got.count < 25_000
    _, got = page(reading, "lines", ("count", "estimated"), ("order_code", "in.(1,2,3)"), limit=2)
    assert got.count == 3, "few are counted"


def test_a_swap_is_seen_at_once_and_cursors_survive_it(deployed_url: str, reading: Reading) -> None:
    insert(deployed_url, "orders__1", order(1), order(2))
    _, got = page(reading, "orders", limit=1)
    _, by_weight = page(reading, "orders", ("order", "weight"), limit=1)
    assert got.next is not None
    assert by_weight.next is not None
    narrow = replace(orders.model, columns=tuple(c for c in orders.model.columns if c.name != "weight"))
    with psycopg.connect(deployed_url) as connection:
        add_version(connection, narrow, ["sales.events"])
    insert(deployed_url, "orders__2", order(3))
    with psycopg.connect(deployed_url) as connection:
        connection.execute("DROP TABLE data.orders__1 CASCADE")
    found, _ = page(reading, "orders")
    assert [row["order_id"] for row in found] == [3]
    assert "weight" not in found[0]
    found, _ = page(reading, "orders", ("cursor", got.next))
    assert [row["order_id"] for row in found] == [3], "the order's column is as it was"
    with pytest.raises(refused.UnknownParameter, match="weight"):
        page(reading, "orders", ("order", "weight"), ("cursor", by_weight.next))
    wider = tuple(
        replace(column, type=replace(column.type, kind="numeric")) if column.name == "order_id" else column
        for column in narrow.columns
    )
    with psycopg.connect(deployed_url) as connection:
        add_version(connection, replace(narrow, columns=wider), ["sales.events"])
    with pytest.raises(refused.CursorExpired, match="columns that have changed"):
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

    async def read(database: Reader) -> set[int]:
        seen = set()
        for _ in range(150):
            one, many = await asyncio.gather(
                one_row(database, "orders", "1"),
                list_rows(database, "orders", (), Paging(10, 10, KEY)),
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


CONFORMANCE = (
    (ROOT / "docs" / "reference" / "query-language.md").read_text().split("## What PostgREST has")[1]
)
SERVED = {
    "eq": ("customer", "eq.ALFKI"),
    "gt": ("total", "gt.1"),
    "gte": ("total", "gte.440"),
    "lt": ("total", "lt.441"),
    "lte": ("total", "lte.440"),
    "neq": ("customer", "neq.x"),
    "like": ("customer", "like.AL*"),
    "ilike": ("customer", "ilike.al*"),
    "in": ("customer", 'in.(x,"ALFKI")'),
    "is": ("weight", "is.null"),
    "isdistinct": ("weight", "isdistinct.1"),
    "cs": ("extra", 'cs.{"a":1}'),
    "not": ("customer", "not.eq.x"),
    "or": ("or", "(customer.eq.x,total.gt.1)"),
    "and": ("and", "(customer.eq.ALFKI,total.gt.1)"),
}


@pytest.mark.parametrize(
    ("operator", "here"), re.findall(r"^\| `(\w+)` \| (served|refused) \|", CONFORMANCE, re.MULTILINE)
)
def test_what_postgrest_documents(deployed_url: str, reading: Reading, operator: str, here: str) -> None:
    insert(deployed_url, "orders__1", order(1, extra={"a": 1}))
    if here == "served":
        name, value = SERVED[operator]
        assert operator in (name, value.split(".")[0])
        assert [row["order_id"] for row in page(reading, "orders", (name, value))[0]] == [1]
        against = (name, f"not.{value}") if name not in ("or", "and") else (f"not.{name}", value)
        if operator != "not":
            assert page(reading, "orders", against)[0] == []
    else:
        written = f"eq({operator}).{{x}}" if operator in ("all", "any") else f"{operator}.x"
        with pytest.raises(refused.InvalidParameter, match="there is no operator"):
            page(reading, "orders", ("customer", written))


@pytest.mark.parametrize("name", ["r", "i", "w", "page", "head", "counted", "_row", "c0", "o0", "generation"])
def test_an_output_may_have_any_name(deployed_url: str, reading: Reading, name: str) -> None:
    insert(deployed_url, "orders__1", order(1), order(2))
    for parameters in ([], [("order", "total")], [("order", "order_id"), ("count", "exact")]):
        found, _ = page(reading, "orders", ("select", f"{name}:customer"), *parameters)
        assert found == [{name: "ALFKI"}] * 2
    one = reading(lambda database: one_row(database, "orders", "1", f"{name}:customer,order_id"))
    assert json.loads(one.body) == {name: "ALFKI", "order_id": 1}


def test_a_page_that_could_not_be_followed_is_refused(deployed_url: str, reading: Reading) -> None:
    insert(deployed_url, "orders__1", order(1, customer="x" * 9000), order(2, customer="y"))
    with pytest.raises(refused.InvalidParameter, match="no page can follow"):
        page(reading, "orders", ("order", "customer"), limit=1)
    assert len(page(reading, "orders", ("order", "customer"), limit=2)[0]) == 2


def test_much_that_is_asked_is_refused_at_once(reading: Reading) -> None:
    for name in ("order", "select"):
        with pytest.raises(refused.InvalidParameter, match="at most"):
            page(reading, "orders", (name, ",".join(f"extra->>{n}" for n in range(20_000))))
