"""Reads that are asked at once share statements, and each has its own answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from mesh_core.model.grants import claim, column, grant
from mesh_core.read import Database, Paging, list_rows, one_row
from mesh_core.read.compiler import Statement
from mesh_core.read.errors import InvalidValue, ReadError, RowNotFound
from mesh_core.read.subject import MESH, Subject
from mesh_core.store.grants import declare
from mesh_core.store.versions import raise_generation
from tests.read.declarations import deploy_by_hand, insert, lines, order, orders
from tests.support.services import Services, fresh_database

PAGING = Paging(3, 100, b"a key")


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with fresh_database(services.database_url) as url:
        deploy_by_hand(url)
        insert(url, "orders__1", *(order(number, customer=f"{number % 3}") for number in range(1, 61)))
        insert(
            url, "lines__1", *({"order_code": f"a{n},%", "product": "x", "quantity": n} for n in range(30))
        )
        with psycopg.connect(url) as connection:
            own = grant(orders, "customer", where=claim("customer") == column("customer"))
            declare(connection, [own.model, grant(orders, "clerk").model, grant(lines, "clerk").model])
            raise_generation(connection)
        yield url


def asked(url: str, *reads: Any, subjects: Any = (MESH,)) -> tuple[list[Any], list[Statement]]:
    """What reads answer that are asked at once, and the statements that were sent."""
    sent: list[Statement] = []

    async def run() -> list[Any]:
        async with Database(url, pool_size=4, statement_timeout_seconds=5) as database:
            for subject in subjects:  # so that nothing is loaded meanwhile
                await list_rows(database.as_seen_by(subject), "orders", [], PAGING)
            plain = database.fetch

            async def noted(statement: Statement, row_security: str = "") -> Any:
                sent.append(statement)
                return await plain(statement, row_security)

            database.fetch = noted  # type: ignore[method-assign]
            database._gathering._fetch = noted
            made = [
                read(database.as_seen_by(subjects[number % len(subjects)]))
                for number, read in enumerate(reads)
            ]
            return await asyncio.gather(*made, return_exceptions=True)

    return asyncio.run(run()), sent


def test_each_has_its_own_row(url: str) -> None:
    keys = [*range(1, 60), 999, 1000]
    found, sent = asked(url, *((lambda reader, key=key: one_row(reader, "orders", str(key))) for key in keys))
    assert [json.loads(answer.body)["order_id"] for answer in found[:-2]] == keys[:-2]
    assert all(isinstance(answer, RowNotFound) for answer in found[-2:])
    assert len(sent) <= len(keys) / 8 + 3, "most shared one"
    assert {answer.position for answer in found[:-2]} == {found[0].position}


def test_each_has_its_own_page(url: str) -> None:
    afters = list(range(60))
    found, sent = asked(
        url,
        *((lambda reader, after=after: list_rows(reader, "orders", [("order_id", f"gt.{after}")], PAGING)) for after in afters),
        list_rows_of_all := lambda reader: list_rows(reader, "orders", [("order_id", "gt.57"), ("limit", "2")], PAGING),
    )  # fmt: skip
    assert list_rows_of_all
    for after, page in zip(afters, found, strict=False):
        ids = [row["order_id"] for row in json.loads(page.body)]
        assert ids == list(range(after + 1, min(after + 3, 60) + 1))
        assert (page.next is None) == (after + 3 >= 60)
    assert [row["order_id"] for row in json.loads(found[-1].body)] == [58, 59]
    assert len(sent) < len(found) / 4
    onward = asyncio.run(_page(url, found[0].next))
    assert [row["order_id"] for row in json.loads(onward.body)] == [4, 5, 6]


async def _page(url: str, cursor: str) -> Any:
    async with Database(url, pool_size=1, statement_timeout_seconds=5) as database:
        parameters = [("order_id", "gt.0"), ("cursor", cursor)]
        return await list_rows(database.as_itself, "orders", parameters, PAGING)


def test_composite_keys_and_odd_values(url: str) -> None:
    keys = [f"a{number}%2C%25,x" for number in range(30)]
    found, _ = asked(url, *((lambda reader, key=key: one_row(reader, "lines", key)) for key in keys))
    assert [json.loads(answer.body)["quantity"] for answer in found] == list(range(30))
    values = ["%s", '"$asked".v0', "', '", "{}", "\\", "NULL", "%%", ""]
    found, _ = asked(
        url,
        *(
            (lambda reader, v=v: list_rows(reader, "orders", [("customer", f"eq.{v}")], PAGING))
            for v in values * 3
        ),
    )
    assert [page.body for page in found] == ["[]"] * len(values) * 3


def test_places_in_json_and_lists_of_claims_go_alone(url: str) -> None:
    with psycopg.connect(url) as connection:
        some = grant(orders, "some", columns=["total"])
        listed = grant(orders, "some", columns=["customer"], where=column("customer").in_(claim("customers")))
        own = grant(orders, "customer", where=claim("customer") == column("customer"))
        granted = (some, listed, own, grant(orders, "clerk"), grant(lines, "clerk"))
        declare(connection, [each.model for each in granted])
        raise_generation(connection)
    select = "order_id,place:extra->a->>b"
    found, _ = asked(
        url, *((lambda reader, key=key: one_row(reader, "orders", str(key), select)) for key in (1, 2, 3))
    )
    assert [json.loads(answer.body)["order_id"] for answer in found] == [1, 2, 3]
    subject = Subject("some", ("some",), {"customers": ["1", "2"]})
    reads = [lambda reader, key=key: one_row(reader, "orders", str(key)) for key in range(1, 7)]
    more = [lambda reader: list_rows(reader, "orders", [("order_id", "gt.0")], PAGING)] * 5
    found, _ = asked(url, *reads, *more, subjects=[subject])
    assert [json.loads(answer.body)["customer"] for answer in found[:6]] == ["1", "2", None] * 2
    assert [row["customer"] for row in json.loads(found[-1].body)] == ["1", "2", None]


def test_what_is_wrong_with_one_is_not_so_for_others(url: str) -> None:
    # A number that is one, but of no timestamp that Postgres has.
    def read(value: str) -> Any:
        return lambda reader: list_rows(reader, "orders", [("weight", f"lt.{value}")], PAGING)

    values = ["1", "2", "1e400", "3", "4", "5"]
    found, _ = asked(url, *(read(value) for value in values))
    for value, answer in zip(values, found, strict=True):
        assert isinstance(answer, ReadError if value == "1e400" else object)
        assert isinstance(answer, InvalidValue) == (value == "1e400")


def test_nobody_shares_a_statement_with_who_sees_other_rows(url: str) -> None:
    subjects = [Subject(str(n), ("customer",), {"customer": str(n)}) for n in range(3)]
    subjects.append(Subject("clerk", ("clerk",), {}))
    reads = [
        lambda reader: list_rows(reader, "orders", [("order_id", "gt.0"), ("limit", "100")], PAGING)
    ] * 40
    found, _ = asked(url, *reads, subjects=subjects)
    for number, page in enumerate(found):
        customers = {row["customer"] for row in json.loads(page.body)}
        assert customers == ({"0", "1", "2"} if number % 4 == 3 else {str(number % 4)})


def test_whoever_goes_takes_nobody_along(url: str) -> None:
    async def run() -> list[Any]:
        async with Database(url, pool_size=2, statement_timeout_seconds=5) as database:
            reader = database.as_itself
            await one_row(reader, "orders", "1")
            tasks = [asyncio.create_task(one_row(reader, "orders", str(key))) for key in range(1, 41)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert database._gathering._lines == {}
            return found

    found = asyncio.run(run())
    assert all(isinstance(each, asyncio.CancelledError) for each in found[::2])
    assert [json.loads(each.body)["order_id"] for each in found[1::2]] == list(range(2, 41, 2))
