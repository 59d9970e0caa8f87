"""Northwind as of a day, beside what its files say of that day."""

from __future__ import annotations

import csv
import fcntl
import json
from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mesh_core.engine.replay import batches, move_to_schema, write_file
from mesh_core.errors import UsageError
from mesh_core.settings import ROOT
from tests.engine.replay.replaying import left_behind, replaying, rows_at
from tests.support.mesh import Mesh

DAY = datetime(2017, 1, 1, tzinfo=UTC)
DATA = ROOT / "projections" / "northwind" / "data"


def table(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def midnight(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)


def totals_before(day: datetime) -> dict[int, tuple[int, Decimal]]:
    """(lines, total) of the orders that were placed before a day."""
    placed = {int(row["order_id"]) for row in table("orders") if midnight(row["order_date"]) < day}
    lines: dict[int, list[Decimal]] = defaultdict(list)
    for row in table("order_details"):
        if int(row["order_id"]) in placed:
            price, discount = Decimal(row["unit_price"]), Decimal(row["discount"])
            lines[int(row["order_id"])].append(price * int(row["quantity"]) * (1 - discount))
    return {order: (len(each), sum(each, Decimal(0))) for order, each in lines.items()}


def test_it_has_the_orders_of_that_day_as_they_were(northwind: Mesh) -> None:
    names = {row["customer_id"]: row["company_name"] for row in table("customers")}
    sent = {int(row["order_id"]): row["shipped_date"] for row in table("orders")}
    orders = {int(row["order_id"]): row for row in table("orders")}
    rows = rows_at(northwind, "order_overview", as_of=DAY)
    totals = totals_before(DAY)
    assert 100 < len(totals) < 830
    assert set(rows) == {(order,) for order in totals}
    for (order,), row in rows.items():
        assert (row["line_count"], row["total"]) == totals[order]
        assert row["customer_name"] == names[orders[order]["customer_id"]]
        gone = sent[order] and midnight(sent[order]) < DAY
        assert row["shipped_at"] == (midnight(sent[order]) if gone else None), order


def test_it_has_what_customers_had_ordered_by_then(northwind: Mesh) -> None:
    rows = rows_at(northwind, "customer_overview", as_of=DAY)
    totals, mine = totals_before(DAY), defaultdict[str, list[dict[str, str]]](list)
    for row in table("orders"):
        if midnight(row["order_date"]) < DAY:
            mine[row["customer_id"]].append(row)
    assert len(rows) == len(table("customers"))
    for (customer,), row in rows.items():
        orders = mine[customer]
        open_ = [each for each in orders if not each["shipped_date"] or midnight(each["shipped_date"]) >= DAY]
        assert (row["order_count"], row["open_orders"]) == (len(orders), len(open_)), customer
        assert row["lifetime_total"] == sum((totals[int(each["order_id"])][1] for each in orders), Decimal(0))


def test_before_anything_it_is_empty_and_now_it_is_what_serves(northwind: Mesh) -> None:
    assert rows_at(northwind, "order_overview", as_of=datetime(1990, 1, 1, tzinfo=UTC)) == {}
    now = rows_at(northwind, "order_overview")
    assert {order: row for (order,), row in now.items()} == northwind.rows("order_overview")
    assert rows_at(northwind, "order_overview", as_of=datetime(2100, 1, 1, tzinfo=UTC)) == now


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            name: json.loads(value) if name == "products" and isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in rows
    ]


def test_every_kind_of_file_has_the_same_rows(northwind: Mesh, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    from pyarrow import parquet

    with replaying(northwind, "order_overview", as_of=DAY) as found:
        for ending in ("parquet", "csv", "duckdb"):
            write_file(found, tmp_path / f"orders.{ending}")
        with batches(found) as reader:
            arrow = reader.read_all()
        assert move_to_schema(found, "mine") == "mine.order_overview"
    served = {row["order_id"]: row for row in northwind.rows_of("order_overview")}
    rows = plain(arrow.to_pylist())
    assert [row["order_id"] for row in rows] == sorted(row["order_id"] for row in rows)
    assert arrow.schema.metadata[b"flexmesh.view"] == b"order_overview"
    for row in rows:
        same = served[row["order_id"]]
        assert {**row, "shipped_at": None} == {**same, "shipped_at": None}
    assert parquet.read_table(tmp_path / "orders.parquet") == arrow
    with duckdb.connect(str(tmp_path / "orders.duckdb")) as database:
        database.execute("SET TimeZone = 'UTC'")
        found_rows = database.execute(
            "SELECT order_id, total, line_count FROM order_overview ORDER BY 1"
        ).fetchall()
    assert found_rows == [(row["order_id"], row["total"], row["line_count"]) for row in rows]
    with (tmp_path / "orders.csv").open(encoding="utf-8") as file:
        assert [int(row["order_id"]) for row in csv.DictReader(file)] == [row["order_id"] for row in rows]
    assert northwind.query("SELECT count(*), sum(total) FROM mine.order_overview") == [
        (len(rows), sum(row["total"] for row in rows))
    ]
    assert left_behind(northwind) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "orders.csv",
        "orders.duckdb",
        "orders.parquet",
    ]


def test_a_file_that_says_no_format_is_refused(northwind: Mesh, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"orders\.xlsx has no ending .*\.parquet"),
        replaying(northwind, "order_overview") as found,
    ):
        write_file(found, tmp_path / "orders.xlsx")
    with replaying(northwind, "order_overview") as found:
        assert found.resumed
        path = tmp_path / "orders.csv"
        with path.with_name(".orders.csv.part").open("ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(UsageError, match="Another replay writes"):
                write_file(found, path)
    assert left_behind(northwind) == []
