"""Reads that must reflect something: they wait for it, or say why it is not there."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from mesh_core.log import Position
from mesh_core.read import (
    Asked,
    Demand,
    Paging,
    answer_several,
    changes,
    errors,
    list_rows,
    one_row,
    workflows_of,
)
from mesh_core.read.database import Reader
from mesh_core.read.subject import Subject
from tests.read.declarations import insert, order

PAGING = Paging(3, 1000, b"a key for cursors")
Reading = Callable[[Callable[[Reader], Awaitable[Any]]], Any]


@pytest.fixture
def url(deployed_url: str) -> str:
    insert(deployed_url, "orders__1", order(1), order(2))
    return deployed_url


def at(offset: int, topic: str = "sales.events") -> Position:
    return Position.from_json({topic: {"1": offset}})


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)


def advance(url: str, offset: int) -> None:
    """As the projector does: checkpoint, row and notification in one transaction."""
    execute(
        url,
        f"UPDATE mesh.checkpoints SET next_offset = {offset} WHERE topic = 'sales.events' AND partition = 1",
        f"UPDATE data.orders__1 SET shipment_count = {offset}",
        "NOTIFY mesh_positions",
    )


def row(reading: Reading, demand: Demand) -> Any:
    return reading(lambda database: one_row(database, "orders", "1", None, demand))


def rows(reading: Reading, demand: Demand) -> Any:
    return reading(lambda database: list_rows(database, "orders", [], PAGING, demand))


def test_what_is_reached_is_answered_and_what_is_not_says_how_far_it_is(url: str, reading: Reading) -> None:
    advance(url, 5)
    assert json.loads(row(reading, Demand(at(5))).body)["shipment_count"] == 5
    assert [each["shipment_count"] for each in json.loads(rows(reading, Demand(at(4))).body)] == [5, 5]
    for read in (row, rows):
        started = time.monotonic()
        with pytest.raises(errors.NotReached, match=r'come to .*"sales.events":\{"0":0,"1":5\}') as raised:
            read(reading, Demand(at(6)))
        assert time.monotonic() - started < 8
        assert json.loads(raised.value.position)["sales.events"] == {"0": 0, "1": 5}
    with pytest.raises(errors.NotReached, match=r"within 0\.3 s"):
        row(reading, Demand(at(6), wait=0.3))


def test_a_read_that_waits_is_woken(url: str, reading: Reading) -> None:
    with pytest.raises(errors.NotReached):
        row(reading, Demand(at(1), wait=0.3))  # it listens from now on
    took = []
    for offset in (1, 2, 3):
        writer = threading.Timer(0.3, advance, (url, offset))
        started = time.monotonic()
        writer.start()
        answer = row(reading, Demand(at(offset), wait=10))
        assert json.loads(answer.body)["shipment_count"] == offset
        took.append(time.monotonic() - started)
        writer.join()
    assert min(took) < 0.8, "sooner than it would have looked by itself"


def test_a_read_that_waits_survives_the_loss_of_its_connections(url: str, reading: Reading) -> None:
    with pytest.raises(errors.NotReached):
        row(reading, Demand(at(1), wait=0.3))
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mesh read waiting' "
        "AND datname = current_database()",
    )
    writer = threading.Timer(0.5, advance, (url, 1))
    writer.start()
    assert json.loads(row(reading, Demand(at(1), wait=10)).body)["shipment_count"] == 1
    writer.join()


def test_a_read_that_waits_looks_only_when_it_may_be_met(
    url: str, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.NotReached):
        row(reading, Demand(at(1), wait=0.3))
    looks: list[float] = []

    async def read(database: Reader) -> Any:
        plain = database.database.snapshot

        def counted(subject: Subject) -> Any:
            looks.append(time.monotonic())
            return plain(subject)

        monkeypatch.setattr(database.database, "snapshot", counted)
        return await one_row(database, "orders", "1", None, Demand(at(60), wait=20))

    def write() -> None:
        for offset in range(1, 61):
            execute(
                url,
                f"UPDATE mesh.checkpoints SET next_offset = {offset} WHERE topic = 'sales.events' AND partition = 1",
                f"UPDATE data.orders__1 SET shipment_count = {offset}",
                f"SELECT pg_notify('mesh_positions', '{{\"sales.events\":{{\"1\":{offset}}}}}')",
            )

    writer = threading.Timer(0.2, write)
    writer.start()
    assert json.loads(reading(read).body)["shipment_count"] == 60
    writer.join()
    assert len(looks) <= 2 + (looks[-1] - looks[0]) / 0.9, "not at each of sixty notifications"


def test_more_may_not_wait_than_are_borne(
    url: str, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_WAITING", 3)

    async def five(database: Reader) -> list[Any]:
        waiting = [one_row(database, "orders", "1", None, Demand(at(1), wait=0.5)) for _ in range(5)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    kinds = [type(error) for error in reading(five)]
    assert (kinds.count(errors.ReadUnavailable), kinds.count(errors.NotReached)) == (2, 3)


def test_many_wait_on_few_connections(url: str, reading: Reading) -> None:
    async def all_of_them(database: Reader) -> list[Any]:
        wanted = [one_row(database, "orders", "1", None, Demand(at(1 + n % 3), wait=20)) for n in range(40)]
        return await asyncio.gather(*wanted)

    writers = [threading.Timer(0.2 * offset, advance, (url, offset)) for offset in (1, 2, 3)]
    for writer in writers:
        writer.start()
    found = [json.loads(answer.body)["shipment_count"] for answer in reading(all_of_them)]
    assert all(count >= 1 + n % 3 for n, count in enumerate(found))


def test_rows_that_a_wide_change_has_yet_to_reach_are_waited_for(url: str, reading: Reading) -> None:
    advance(url, 1)
    execute(
        url,
        "INSERT INTO mesh.fan_out (version_id, node, key, hash, noted_at) "
        "SELECT id, 'n', '[]', 'h', now() - interval '9 s' FROM mesh.versions WHERE name = 'orders'",
    )
    with pytest.raises(errors.NotReached, match="wide change"):
        row(reading, Demand(at(1)))
    execute(url, "UPDATE mesh.checkpoints SET current_at = now()")
    assert 9 <= row(reading, Demand()).age < 60, "as old as what it does not reflect"
    execute(url, "DELETE FROM mesh.fan_out")
    assert row(reading, Demand(at(1))).age < 9


def test_what_is_parked_below_the_minimum_is_told(url: str, reading: Reading) -> None:
    advance(url, 9)
    execute(
        url,
        *(
            'INSERT INTO mesh.held_events (topic, partition, "offset", version_id, topic_id, status, record_key, '
            "reason, detail, timestamp, otherwise, counted) SELECT 'sales.events', 1, "
            f"{offset}, id, 'id', '{status}', 'k', 'r', 'd', 0, 'applied', 'parked' "
            f"FROM mesh.versions WHERE name = '{entity}'"
            for offset, status, entity in (
                (3, "dead", "sales.order"),
                (5, "parked", "sales.order"),
                (4, "dead", "sales.line"),
            )
        ),
    )
    assert row(reading, Demand(at(3))).met.parked == 0
    with pytest.raises(errors.Parked, match="1 event of what orders is made of"):
        row(reading, Demand(at(4)))
    with pytest.raises(errors.Parked, match="2 events"):
        row(reading, Demand(at(9)))
    assert rows(reading, Demand(at(9))).met.parked == 2
    assert row(reading, Demand(max_staleness=None, minimum=at(99, "mesh.events"))).met.parked == 0


def test_topics_that_do_not_feed_it_are_ignored_and_named(url: str, reading: Reading) -> None:
    advance(url, 1)
    minimum = at(1).merge(at(1_000, "other.events")).merge(at(7, "mesh.events"))
    assert row(reading, Demand(minimum)).met.ignored == ("mesh.events", "other.events")


def test_a_halt_is_the_reason(url: str, reading: Reading) -> None:
    execute(
        url,
        "UPDATE mesh.checkpoints SET halted_reason = 'it was made anew' WHERE topic = 'logistics.events'",
    )
    with pytest.raises(errors.NotReached, match="halted: it was made anew"):
        row(reading, Demand(at(1)))


def test_rows_that_may_be_too_old_are_refused(url: str, reading: Reading) -> None:
    assert row(reading, Demand()).age is None
    with pytest.raises(errors.TooStale, match="age is not known, more than max-staleness=60"):
        row(reading, Demand(max_staleness=60))
    execute(
        url,
        "UPDATE mesh.checkpoints SET current_at = now()",
        "UPDATE mesh.checkpoints SET current_at = now() - interval '20 s' WHERE topic = 'logistics.events'",
    )
    assert 20 <= row(reading, Demand(max_staleness=60)).age < 40
    for read in (row, rows):
        with pytest.raises(errors.TooStale, match=r"age is 2\d(\.\d+)? s, more than max-staleness=10"):
            read(reading, Demand(max_staleness=10))
    lines = reading(lambda database: list_rows(database, "lines", [], PAGING, Demand(max_staleness=10)))
    assert lines.age < 10, "another topic"


def test_several_queries_are_of_one_snapshot(url: str, reading: Reading) -> None:
    stop = threading.Event()

    def write() -> None:
        offset = 0
        while not stop.is_set():
            offset += 1
            advance(url, offset)

    queries = [
        Asked(
            "orders", {"select": "shipment_count", "order": "order_id.desc", "limit": "1", "count": "exact"}
        ),
        Asked("orders", {"select": "shipment_count"}, "1"),
        Asked("lines", {}, "a,b"),
        Asked("orders", {"order_id": ["gte.1", "lt.2"]}),
    ]

    async def read(database: Reader) -> set[int]:
        seen = set()
        for turn in range(60):
            demand = Demand(at(turn), wait=20) if turn % 2 else Demand()
            answer = await answer_several(database, queries, PAGING, demand)
            document = json.loads(answer.body)
            first, one, missing, filtered = document["results"]
            assert document["position"] == json.loads(answer.position)
            count = document["position"]["sales.events"]["1"]
            assert first["rows"] == [{"shipment_count": count}]
            assert (first["count"], first["prev"]) == (2, None)
            assert first["next"]
            assert one == {"row": {"shipment_count": count}}
            assert missing == {"row": None}
            assert [each["order_id"] for each in filtered["rows"]] == [1]
            seen.add(count)
        return seen

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert len(reading(read)) > 5
    finally:
        stop.set()
        writer.join()


def test_of_several_queries_the_one_at_fault_is_named(url: str, reading: Reading) -> None:
    fine = Asked("orders", {})
    for wrong, error, says in (
        (Asked("orders", {"custmer": "x"}), errors.UnknownParameter, "Query 1: orders has no column"),
        (Asked("order", {}), errors.ViewNotFound, "Query 1: There is no view 'order'"),
        (Asked("orders", {"limit": "1"}, "1"), errors.UnknownParameter, "Query 1: One row has no parameter"),
        (Asked("orders", {}, "x"), errors.InvalidKey, "Query 1"),
    ):
        with pytest.raises(error, match=says):
            reading(lambda database, wrong=wrong: answer_several(database, [fine, wrong], PAGING, Demand()))
    for queries in ([], [fine] * 51):
        with pytest.raises(errors.InvalidParameter, match="1 to 50"):
            reading(lambda database, queries=queries: answer_several(database, queries, PAGING, Demand()))


def test_workflows_are_waited_for_too(url: str, reading: Reading) -> None:
    demand = Demand(Position.from_json({"mesh.events": {"0": 1}}))

    def find(database: Reader) -> Awaitable[Any]:
        return workflows_of(database, "sales", "order", "7", PAGING, demand=demand)

    with pytest.raises(errors.NotReached):
        reading(find)
    execute(url, "UPDATE mesh.checkpoints SET next_offset = 1 WHERE topic = 'mesh.events'")
    assert json.loads(reading(find).body) == []
