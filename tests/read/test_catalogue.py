"""What there is to read, how fresh it is, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from mesh_core.read import (
    Database,
    Paging,
    errors,
    mesh_status,
    relations,
    timeline,
    views,
    workflow,
    workflows_of,
)
from mesh_core.read.database import Reader
from mesh_core.read.status import unready
from mesh_core.store.control import held_events
from mesh_core.store.migrate import newest_revision
from tests.read.declarations import catalog, deploy_by_hand, insert, order

Reading = Callable[[Callable[[Reader], Awaitable[Any]]], Any]
FIRST, SECOND = UUID(int=1), UUID(int=2)
PAGING = Paging(3, 1000, b"a key for cursors")
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
DECLARED = [*catalog.entities, *catalog.views]


def halt(url: str, reason: str | None) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE mesh.checkpoints SET halted_reason = %s "
            "WHERE topic = 'logistics.events' AND partition = 1",
            (reason,),
        )


def entry(workflow_id: UUID, service: str, entity: str, key: str, origin: str) -> dict[str, Any]:
    return {
        "workflow_id": workflow_id,
        "service": service,
        "entity": entity,
        "key": key,
        "origin": origin,
        "registered_at": AT,
        "_partition": 0,
    }


def test_views_are_described(reading: Reading) -> None:
    found = {view["name"]: view for view in reading(views).document}
    assert list(found) == ["lines", "orders", "shipment_orders"]
    assert found["lines"]["key"] == ["order_code", "product"]
    assert found["orders"]["version"] == 1
    assert found["orders"]["root"] == "sales.order"
    columns = {column["name"]: column for column in found["orders"]["columns"]}
    assert columns["total"] == {
        "name": "total",
        "type": "numeric",
        "nullable": False,
        "precision": 20,
        "scale": 4,
    }
    assert columns["due"] == {"name": "due", "type": "date", "nullable": True}
    freshness = found["orders"]["freshness"]
    assert (freshness["stale"], freshness["reason"]) == (False, None)
    assert freshness["position"]["sales.events"] == {"0": 0, "1": 0}


def test_a_halted_partition_makes_its_views_stale_and_no_others(deployed_url: str, reading: Reading) -> None:
    halt(deployed_url, "the topic was re-created")
    found = {view["name"]: view["freshness"] for view in reading(views).document}
    assert found["orders"]["stale"]
    assert found["orders"]["reason"] == "logistics.events[1]: the topic was re-created"
    assert not found["lines"]["stale"]


def test_a_pending_fan_out_makes_its_view_stale_and_no_other(deployed_url: str, reading: Reading) -> None:
    with psycopg.connect(deployed_url) as connection:
        connection.execute(
            "INSERT INTO mesh.fan_out (version_id, node, key, hash, noted_at) "
            "SELECT id, 'n', '[1]', '', '2026-01-02T03:04:05Z' FROM mesh.versions WHERE name = 'orders' AND kind = 'view'"
        )
    found = {view["name"]: view["freshness"] for view in reading(views).document}
    assert found["orders"]["stale"]
    assert "since 2026-01-02T03:04:05+00:00" in found["orders"]["reason"]
    assert not found["lines"]["stale"]


def test_relations_name_services_entities_and_edges(reading: Reading) -> None:
    found = reading(relations).document
    assert {"service": "sales", "entities": ["sales.line", "sales.order"]} in found["services"]
    assert [entity["key"] for entity in found["entities"] if entity["name"] == "sales.line"] == [
        ["order_code", "product"]
    ]
    assert {
        "kind": "many",
        "from": {"entity": "sales.order", "columns": ["order_id"]},
        "to": {"entity": "logistics.shipment", "columns": ["order_id"]},
        "views": ["orders"],
    } in found["edges"]
    assert "workflow" in {edge["kind"] for edge in found["edges"]}


def test_a_workflow_has_each_entry_once(deployed_url: str, reading: Reading) -> None:
    insert(
        deployed_url,
        "mesh_workflow_entry__1",
        entry(FIRST, "sales", "order", "7", "sales.events"),
        entry(FIRST, "sales", "order", "7", "mesh.events"),
        entry(FIRST, "logistics", "shipment", "x", "logistics.events"),
        entry(SECOND, "sales", "order", "7", "sales.events"),
    )
    insert(
        deployed_url,
        "mesh_workflow__1",
        {
            "workflow_id": FIRST,
            "name": "an order",
            "attributes": {"a": 1.10},
            "created_at": AT,
            "created_by": "/api",
            "_partition": 0,
        },
    )
    found = json.loads(reading(lambda database: workflow(database, str(FIRST))).body)
    assert (found["workflow_id"], found["name"], found["truncated"]) == (str(FIRST), "an order", False)
    assert [(e["service"], e["entity"], e["key"], e["origins"]) for e in found["entries"]] == [
        ("logistics", "shipment", "x", ["logistics.events"]),
        ("sales", "order", "7", ["mesh.events", "sales.events"]),
    ]
    unnamed = json.loads(reading(lambda database: workflow(database, str(SECOND))).body)
    assert (unnamed["name"], len(unnamed["entries"])) == (None, 1)
    with pytest.raises(errors.WorkflowNotFound):
        reading(lambda database: workflow(database, str(UUID(int=3))))
    with pytest.raises(errors.InvalidValue, match="workflow_id: expected a UUID"):
        reading(lambda database: workflow(database, "x"))


def test_entries_can_be_expanded_to_their_rows(deployed_url: str, reading: Reading) -> None:
    insert(
        deployed_url,
        "mesh_workflow_entry__1",
        entry(FIRST, "sales", "order", "7", "sales.events"),
        entry(FIRST, "sales", "order", "8", "sales.events"),
        entry(FIRST, "sales", "order", "not a number", "mesh.events"),
        entry(FIRST, "sales", "line", "a%2Cb,c", "sales.events"),
        entry(FIRST, "elsewhere", "thing", "1", "mesh.events"),
    )
    insert(deployed_url, "orders__1", order(7))
    insert(
        deployed_url,
        "sales_line__1",
        {"order_code": "a,b", "product": "c", "quantity": 3, "_partition": 0},
    )
    answer = reading(lambda database: workflow(database, str(FIRST), expand=True))
    assert '"total":440.0000' in answer.body
    found = {(e["service"], e["entity"], e["key"]): e for e in json.loads(answer.body)["entries"]}
    assert found["sales", "order", "7"]["row"] is None
    assert found["sales", "order", "7"]["views"]["orders"]["customer"] == "ALFKI"
    assert found["sales", "order", "8"]["views"] == {}
    assert found["sales", "order", "not a number"]["row"] is None
    assert found["sales", "line", "a%2Cb,c"]["row"]["quantity"] == 3
    assert found["elsewhere", "thing", "1"] | {"row": None, "views": {}} == found["elsewhere", "thing", "1"]


def test_the_workflows_of_an_entry_are_paged(deployed_url: str, reading: Reading) -> None:
    insert(
        deployed_url,
        "mesh_workflow_entry__1",
        *[entry(UUID(int=n), "sales", "order", "7", "sales.events") for n in range(5)],
        entry(FIRST, "sales", "order", "7", "mesh.events"),
    )
    first = reading(lambda database: workflows_of(database, "sales", "order", "7", PAGING))
    rest = reading(lambda database: workflows_of(database, "sales", "order", "7", PAGING, cursor=first.next))
    found = [row["workflow_id"] for row in json.loads(first.body) + json.loads(rest.body)]
    assert found == [str(UUID(int=n)) for n in range(5)]
    assert rest.next is None
    assert json.loads(reading(lambda database: workflows_of(database, "x", "y", "z", PAGING)).body) == []


def test_the_timeline_is_in_order_of_time_and_filtered(deployed_url: str, reading: Reading) -> None:
    with psycopg.connect(deployed_url) as connection:
        for offset, (flow, kind) in enumerate([(FIRST, "placed"), (SECOND, "placed"), (FIRST, "sent")]):
            connection.execute(
                'INSERT INTO mesh.event_index (topic, partition, "offset", workflow_id, service, '
                "entity, key, type, time) VALUES ('sales.events', 0, %s, %s, 'sales', 'order', '7', %s, %s)",
                (offset, flow, f"sales.order.{kind}.v1", AT.replace(hour=12 - offset)),
            )

    def offsets(cursor: str | None = None, **filters: str) -> tuple[list[int], str | None]:
        got = reading(lambda database: timeline(database, filters, PAGING, limit="2", cursor=cursor))
        return [row["offset"] for row in json.loads(got.body)], got.next

    first, cursor = offsets()
    assert first == [2, 1]
    assert offsets(cursor) == ([0], None)
    assert offsets(workflow=str(FIRST))[0] == [2, 0]
    assert offsets(type="sales.order.placed.v1", subject="7")[0] == [1, 0]
    with pytest.raises(errors.InvalidValue, match="workflow: expected a UUID"):
        offsets(workflow="x")
    with pytest.raises(errors.InvalidCursor):
        offsets("WzAsWyJ4Il1d")


def test_readiness_names_what_is_missing(database_url: str, deployed_url: str, reading: Reading) -> None:
    assert reading(lambda database: unready(database.database, DECLARED, newest_revision())) == []
    halt(deployed_url, "re-created")
    assert reading(lambda database: unready(database.database, [*DECLARED, "late"], newest_revision())) == [
        "Not deployed: late. Run mesh deploy.",
        "Halted: logistics.events[1]: re-created",
    ]


def test_a_database_without_schema_says_so(database_url: str) -> None:
    import asyncio

    async def read() -> list[str]:
        async with Database(database_url, pool_size=1, statement_timeout_seconds=1) as database:
            with pytest.raises(errors.NotMigrated):
                await views(database.as_itself)
            return await unready(database, (), newest_revision())

    assert "mesh migrate" in asyncio.run(read())[0]
    with pytest.raises(errors.NotMigrated):
        mesh_status(database_url)


def test_status_counts_held_events_once(deployed_url: str) -> None:
    required = [c for c in held_events.columns if not c.nullable and c.server_default is None]
    plain = {c.name: 0 if c.type.python_type is int else c.name for c in required}
    for version in (1, 2):
        values = plain | {"version_id": version, "status": "dead", "reason": "not_json", "topic": "t"}
        with create_engine(deployed_url, poolclass=NullPool).begin() as connection:
            connection.execute(held_events.insert().values(values))
    status = mesh_status(deployed_url)
    assert {version.name for version in status.versions} == set(DECLARED)
    assert status.position.to_json()["sales.events"] == {"0": 0, "1": 0}
    assert [(held.status, held.reason, held.events) for held in status.held] == [("dead", "not_json", 1)]
    with pytest.raises(errors.ReadUnavailable, match="MESH_DATABASE_URL"):
        mesh_status("postgresql://nobody@127.0.0.1:1/none")


def test_a_slow_read_is_cut_off(database_url: str) -> None:
    import asyncio

    from mesh_core.read.compiler import Statement

    deploy_by_hand(database_url)

    async def read() -> None:
        async with Database(database_url, pool_size=1, statement_timeout_seconds=0.1) as database:
            with pytest.raises(errors.ReadTimeout):
                await database.fetch(Statement(b"SELECT pg_sleep(2)", ()))

    asyncio.run(read())


def test_reads_go_on_after_connections_are_lost(deployed_url: str, reading: Reading) -> None:
    assert reading(views).document
    with psycopg.connect(deployed_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'mesh read' AND datname = current_database()"
        )
    assert reading(views).document
