"""Refreshing a few keys of large views reads by index: what a batch costs does not grow with the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, cast

import psycopg
import pytest

from mesh_core.log import TopicPartition
from mesh_core.settings import Settings
from mesh_core.store import lookups
from mesh_core.store.affected import affected_select
from mesh_core.store.entity_writes import Shape
from mesh_core.store.tables import quote
from mesh_core.store.versions import Plan, live_plan
from mesh_core.store.view_writes import MANY, ViewVersion
from tests.engine.totals import CATALOG
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_settings

FILL = """
INSERT INTO data.crm_customer__1 SELECT 'C' || n, 'name', 'city', NULL, 0 FROM generate_series(1, 60000) n;
INSERT INTO data.crm_loyalty__1 SELECT 'C' || n, 1, 1, 1, now(), 0 FROM generate_series(1, 60000) n;
INSERT INTO data.sales_order__1
    SELECT n, 'C' || n % 60000, now(), NULL, 0 FROM generate_series(1, 60000) n;
INSERT INTO data.sales_line__1
    SELECT n, 1 + (n * 7 + p * 1009) % 30000, 1, 1, 0
    FROM generate_series(1, 60000) n, generate_series(1, 2) p;
INSERT INTO data.sales_tally__1 SELECT n, 1, 0 FROM generate_series(1, 60000) n;
INSERT INTO data.stock_product__1 SELECT n, 'name', 1, 0 FROM generate_series(1, 30000) n;
INSERT INTO data.mesh_workflow__1
    SELECT md5('w' || n)::uuid, NULL, NULL, now(), '/', 0 FROM generate_series(1, 30000) n;
INSERT INTO data.mesh_workflow_entry__1
    SELECT md5('w' || n % 30000)::uuid, 'sales', 'order', n::text, 'sales.events', now(), 0
    FROM generate_series(1, 30000) n;
INSERT INTO data.mesh_workflow_entry__1
    SELECT md5('w' || n)::uuid, 'crm', 'customer', 'C' || n, 'crm.events', now(), 0
    FROM generate_series(1, 30000) n;
"""
KEYS = {
    "crm.customer": "SELECT 'C7'",
    "crm.loyalty": "SELECT 'C7'",
    "sales.order": "SELECT 7",
    "sales.line": "SELECT 7, 1058",
    "sales.tally": "SELECT 7",
    "stock.product": "SELECT 7",
    "mesh.workflow": "SELECT md5('w7')::uuid",
    "mesh.workflow_entry": "SELECT md5('w7')::uuid, 'sales', 'order', '7', 'sales.events'",
}


@pytest.fixture(scope="module")
def tables(services: Services) -> Iterator[tuple[psycopg.Connection[Any], Plan]]:
    """Large tables; use `large`."""
    with ExitStack() as stack:
        mesh = Mesh(stack.enter_context(fresh_settings(services)), CATALOG)
        mesh.deploy(partitions=1)
        connection = stack.enter_context(psycopg.connect(mesh.database_url, autocommit=True))
        connection.execute("SET jit = off")
        connection.execute(FILL)
        connection.execute("ANALYZE")
        plan = live_plan(connection)
        with connection.cursor() as cursor:
            for view in plan.views:
                view.fill(cursor)
        connection.execute("ANALYZE")
        for statement in plan.temporary_tables():
            connection.execute(statement)
        yield connection, plan


@pytest.fixture
def large(tables: tuple[psycopg.Connection[Any], Plan]) -> Iterator[tuple[psycopg.Connection[Any], Plan]]:
    """Large tables, which are afterwards as they were."""
    with tables[0].transaction(force_rollback=True):
        yield tables


def scanned(connection: psycopg.Connection[Any], statement: str) -> tuple[set[str], str]:
    """Tables of schema data that the plan reads from end to end, and the plan."""
    rows = connection.execute("EXPLAIN (FORMAT JSON, VERBOSE) " + statement).fetchone()
    assert rows is not None
    found: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        whole = node["Node Type"] == "Seq Scan" or (
            node["Node Type"] in ("Index Only Scan", "Index Scan") and "Index Cond" not in node
        )
        if whole and node.get("Schema") == "data":
            found.add(node["Relation Name"])
        for child in node.get("Plans", ()):
            walk(child)

    walk(rows[0][0]["Plan"])
    text = connection.execute("EXPLAIN " + statement).fetchall()
    return found, "\n".join(line for (line,) in text)


def touch(connection: psycopg.Connection[Any], plan: Plan, view: ViewVersion) -> None:
    """As after a batch that changed one row of every entity of the view."""
    for name, version in view.sources.items():
        keys = ", ".join(quote(key) for key in version.model.key)
        flags = "".join(f", {flag}" for flag in version.flags.values())
        true = "".join(", true" for _ in version.flags)
        connection.execute(
            f"INSERT INTO {version.touched} ({keys}{flags}) SELECT *{true} FROM ({KEYS[name]}) k"
        )


@pytest.mark.timeout(120)
def test_refreshing_few_keys_scans_no_large_table(large: tuple[psycopg.Connection[Any], Plan]) -> None:
    connection, plan = large
    bad: list[str] = []
    for view in plan.views:
        with connection.transaction(force_rollback=True):
            touch(connection, plan, view)
            for node in view.nodes:
                version = view.sources[node.entity]
                flag = version.flags[node.relevant]
                select = affected_select(node, view.model, view.tables, version.touched, flag)
                tables, text = scanned(connection, select)
                if tables:
                    path = " > ".join(edge.target for edge in node.path)
                    bad.append(
                        f"{view.model.name}: affected by {path or 'root'} reads all of {tables}\n{text}"
                    )
            root = KEYS[view.model.root]
            connection.execute(f"INSERT INTO {view.keys} {root}")
            for what, statement in (
                ("upsert", view.upsert(many=False, by_difference=True)),
                ("delete", view._delete),
            ):
                tables, text = scanned(connection, statement)
                if tables:
                    bad.append(f"{view.model.name}: {what} reads all of {tables}\n{text}")
    assert not bad, "\n\n".join(bad)


@pytest.mark.timeout(120)
def test_whether_anything_is_held_is_known_without_reading_all_that_is(settings: Settings) -> None:
    mesh = Mesh(settings, CATALOG)
    mesh.deploy(partitions=1)
    with psycopg.connect(mesh.database_url, autocommit=True) as connection:
        connection.execute(
            'INSERT INTO mesh.held_events (topic, "partition", "offset", version_id, topic_id, status, record_key, reason, '
            "detail, headers, timestamp, attempts, otherwise, counted) SELECT 'old.events', 0, n, 1, 'x', 'dead', n::text, "
            "'bad_json', '', '[]', 0, 0, 'applied', 'dead_lettered' FROM generate_series(1, 20000) n"
        )
        connection.execute("ANALYZE mesh.held_events")
        ranges = {TopicPartition("crm.events", 0): (0, 5), TopicPartition("sales.events", 0): (3, 9)}
        told = Telling(connection)
        news = lookups.ask_news(cast(psycopg.Connection[Any], told), ranges, [1, 2, 3])()
        assert (news.held, news.decided) == (False, False)
        assert "Seq Scan on held_events" not in told.plan, told.plan
        ranges[TopicPartition("old.events", 0)] = (0, 0)
        assert lookups.ask_news(connection, ranges, [1, 2, 3])().held
        assert not lookups.ask_news(connection, ranges, [2, 3])().held
    mesh.close()


class Telling:
    """A connection that also keeps the plan of what it runs."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.plan = ""

    def execute(self, statement: str, values: Sequence[Any]) -> psycopg.Cursor[Any]:
        rows = self._connection.execute("EXPLAIN " + statement, values).fetchall()
        self.plan = "\n".join(line for (line,) in rows)
        return self._connection.execute(statement, values)


LIMIT = 50


class Explaining:
    """A cursor that also keeps the plan of what it runs, with the rows that were really read."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor
        self.read: list[tuple[float, dict[str, Any]]] = []
        self.text = ""

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def connection(self) -> Explaining:
        return self

    def execute(self, statement: str) -> psycopg.Cursor[Any]:
        with self._cursor.connection.transaction(force_rollback=True):
            row = self._cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON, VERBOSE) " + statement).fetchone()
        assert row is not None
        self._walk(row[0][0]["Plan"])
        self.text += "\n" + json.dumps(row[0][0]["Plan"], indent=1)
        return self._cursor.execute(statement)

    def _walk(self, node: dict[str, Any]) -> None:
        if node.get("Schema") == "data":
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            self.read.append((rows * node["Actual Loops"], node))
        for child in node.get("Plans", ()):
            self._walk(child)


@pytest.mark.timeout(120)
def test_finding_out_how_many_rows_a_change_reaches_stops_at_the_limit(
    large: tuple[psycopg.Connection[Any], Plan],
) -> None:
    connection, plan = large
    connection.execute(
        "INSERT INTO data.sales_order__1 SELECT 200000 + n, 'C7', now(), NULL, 0 FROM generate_series(1, 30000) n;"
        "INSERT INTO data.mesh_workflow_entry__1 SELECT md5('w7')::uuid, 'sales', 'order', (200000 + n)::text, 'sales.events', "
        "now(), 0 FROM generate_series(1, 30000) n; ANALYZE"
    )
    written = set(plan.entities)
    for view in plan.views:
        if not view.wide:
            continue
        with connection.transaction(force_rollback=True), connection.cursor() as cursor:
            touch(connection, plan, view)
            explaining = Explaining(cursor)
            view._spread(cast(psycopg.Cursor[Any], explaining), written, view.keys, LIMIT)
            for rows, _ in explaining.read:
                assert rows <= 4 * LIMIT, (view.model.name, explaining.text)
            queued = cursor.execute("SELECT DISTINCT node FROM mesh.fan_out").fetchall()
            assert queued or view.model.name not in ("order_overview", "order_friends"), view.model.name


@pytest.mark.timeout(120)
@pytest.mark.parametrize("roots", [1, MANY])
def test_a_child_more_is_counted_without_reading_those_that_were_there(
    large: tuple[psycopg.Connection[Any], Plan], roots: int
) -> None:
    connection, plan = large
    view = next(view for view in plan.views if view.model.name == "order_totals")
    line = view.sources["sales.line"]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO data.sales_line__1 SELECT 7, 100000 + n, 1, 1, 0 FROM generate_series(1, 30000) n"
        )
        cursor.execute("UPDATE data.order_totals__1 SET line_count = 30002 WHERE order_id = 7")
        line.stage(cursor, ([n, 999_999, 2, Decimal("1.50"), 0, 0] for n in range(7, 7 + roots)))
        columns = ("quantity", "unit_price")
        line.write(connection, Shape("upsert", tuple((name, "set") for name in columns)), 0, roots)
        explaining = Explaining(cursor)
        view._spread(cast(psycopg.Cursor[Any], explaining), {line.id}, view.keys, 25_000, view.kept)
        explaining.execute(view.upsert(many=roots >= MANY, by_difference=True))
        read = {node["Relation Name"]: rows for rows, node in explaining.read if "Relation Name" in node}
        assert read.get("sales_line__1", 0) == 0, explaining.text
        rows = cursor.execute(
            "SELECT line_count, several FROM data.order_totals__1 WHERE order_id = 7"
        ).fetchall()
        assert rows == [(30_003, 1)]
