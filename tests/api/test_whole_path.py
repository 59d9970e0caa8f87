"""From an event to an answer: real Kafka, the real projector, the real API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import httpx
import pytest

from mesh_core.emit.publisher import Publisher
from mesh_core.engine.deploy import Topics, deploy
from mesh_core.engine.projector import Projector
from mesh_core.log import Driver, KafkaConfig, Position, connect
from mesh_core.settings import Settings
from mesh_core.store.migrate import migrate
from tests.api.conftest import served
from tests.read.declarations import OrderPlaced, ShipmentBooked, catalog

SHIPMENT = UUID(int=3)


@pytest.fixture
def driver(settings: Settings) -> Driver:
    assert settings.kafka_bootstrap_servers
    return connect(KafkaConfig.from_settings(settings, settings.kafka_bootstrap_servers))


@pytest.fixture
def client(settings: Settings, database_url: str, driver: Driver) -> Iterator[httpx.Client]:
    migrate(database_url)
    deploy(database_url, catalog, driver, Topics(2, 1))
    with served(settings.model_copy(update={"catalog": "tests.read.declarations"})) as client:
        yield client


def test_what_is_written_can_be_read_at_its_position(
    client: httpx.Client, settings: Settings, database_url: str, driver: Driver
) -> None:
    created = client.post("/v1/workflows", json={"name": "order 7"})
    assert created.status_code == 201, created.text
    workflow_id = created.json()["workflow_id"]
    by_hand = client.put(f"{created.headers['location']}/entries/legacy/invoice/2026-7")
    with Publisher(driver, "/tests") as publisher:
        placed = OrderPlaced(
            order_id=7,
            customer="ALFKI",
            total=Decimal("12.5000"),
            express=True,
            placed_at=datetime(2026, 1, 31, tzinfo=UTC),
            reference=uuid4(),
        )
        publisher.publish(placed, key="7", workflow_id=workflow_id)
        booked = ShipmentBooked(shipment_id=SHIPMENT, order_id=7)
        publisher.publish(booked, key=str(SHIPMENT), workflow_id=workflow_id)
        published = publisher.flush()
    Projector(settings, database_url, driver).run_until_caught_up()

    row = client.get("/v1/views/orders/7")
    assert row.status_code == 200, row.text
    assert (row.json()["customer"], row.json()["shipment_count"]) == ("ALFKI", 1)
    assert '"total":12.5' in row.text
    assert Position.from_header(row.headers["mesh-position"]).reaches(published)

    found = client.get(created.headers["location"], params={"expand": "rows"})
    assert found.json()["name"] == "order 7"
    reached = Position.from_header(found.headers["mesh-position"])
    for write in (created, by_hand):
        assert reached.reaches(Position.from_header(write.headers["mesh-position"]))
    entries = {(e["service"], e["entity"], e["key"]): e for e in found.json()["entries"]}
    assert {
        ("sales", "order", "7"),
        ("logistics", "shipment", str(SHIPMENT)),
        ("legacy", "invoice", "2026-7"),
    } <= set(entries)
    assert entries["sales", "order", "7"]["views"]["orders"]["shipment_count"] == 1
    assert entries["logistics", "shipment", str(SHIPMENT)]["row"]["order_id"] == 7
    back = client.get("/v1/workflows", params={"service": "sales", "entity": "order", "key": "7"})
    assert [(row["workflow_id"], row["name"]) for row in back.json()] == [(workflow_id, "order 7")]
    types = [row["type"] for row in client.get("/v1/events", params={"workflow": workflow_id}).json()]
    assert {"sales.order.placed.v1", "logistics.shipment.booked.v1"} <= set(types)

    assert client.get("/readyz").json() == {"status": "ready", "reasons": []}
