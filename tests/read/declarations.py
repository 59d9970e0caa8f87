"""A small mesh with every type of column and a composite key, and a way to deploy it without a projector."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from mesh_core.model import Catalog, Col, Entity, Event, Key, View, by_workflow, column, many, one, upsert
from mesh_core.model.entity import EntityModel
from mesh_core.model.view_model import ViewModel
from mesh_core.store import tables
from mesh_core.store.migrate import migrate
from mesh_core.store.versions import insert_version, raise_generation


class OrderPlaced(Event, type="sales.order.placed.v1"):
    order_id: int
    customer: str
    total: Decimal
    weight: float | None = None
    express: bool
    placed_at: datetime
    due: date | None = None
    reference: UUID | None = None
    extra: dict[str, Any] | None = None


class LinePlaced(Event, type="sales.line.placed.v1"):
    order_code: str
    product: str
    quantity: int


class ShipmentBooked(Event, type="logistics.shipment.booked.v1"):
    shipment_id: UUID
    order_id: int


class Order(Entity, service="sales"):
    order_id: Key[int]
    customer: Col[str]
    total: Col[Decimal] = column(precision=20, scale=4)
    weight: Col[float | None]
    express: Col[bool]
    placed_at: Col[datetime]
    due: Col[date | None]
    reference: Col[UUID | None]
    extra: Col[dict[str, Any] | None]
    folds = upsert(OrderPlaced)


class Line(Entity, service="sales"):
    order_code: Key[str]
    product: Key[str]
    quantity: Col[int]
    folds = upsert(LinePlaced)


class Shipment(Entity, service="logistics"):
    shipment_id: Key[UUID]
    order_id: Col[int]
    folds = upsert(ShipmentBooked)


shipments = many(Shipment.order_id, Order.order_id)

orders = View(
    "orders",
    Order,
    order_id=Order.order_id,
    customer=Order.customer,
    total=Order.total,
    weight=Order.weight,
    express=Order.express,
    placed_at=Order.placed_at,
    due=Order.due,
    reference=Order.reference,
    extra=Order.extra,
    shipment_count=shipments.count(),
)
lines = View("lines", Line, order_code=Line.order_code, product=Line.product, quantity=Line.quantity)
shipment_orders = View(
    "shipment_orders",
    Shipment,
    shipment_id=Shipment.shipment_id,
    customer=one(Shipment.order_id, Order.order_id)[Order.customer],
    lines_together=by_workflow(Shipment, Line).count(),
)

catalog = Catalog.of(entities=[Order, Line, Shipment], views=[orders, lines, shipment_orders])


def deploy_by_hand(url: str, declared: Catalog = catalog) -> None:
    """Migrate, and make every version of the catalog live, empty."""
    migrate(url)
    with psycopg.connect(url) as connection:
        for entity in declared.entities.values():
            add_version(connection, entity)
        for view in declared.views.values():
            add_version(connection, view, topics_of(declared, view))
        for topic in declared.topics:
            for partition in range(2):
                connection.execute(
                    "INSERT INTO mesh.checkpoints (topic, partition, next_offset, topic_id, partitions) "
                    "VALUES (%s, %s, 0, 'id', 2)",
                    (topic, partition),
                )


def topics_of(declared: Catalog, view: ViewModel) -> list[str]:
    return sorted({declared.entities[name].topic for name in view.entities})


def add_version(
    connection: psycopg.Connection[Any], model: EntityModel | ViewModel, topics: list[str] | None = None
) -> str:
    """Make an empty version live in place of the one before; its table's name."""
    kind = "entity" if isinstance(model, EntityModel) else "view"
    row = insert_version(
        connection,
        kind=kind,
        name=model.name,
        stem=model.table,
        fingerprint="f",
        declaration=model.to_json(),
        reads={} if isinstance(model, EntityModel) else _live_entities(connection, model),
        topics=[model.topic] if isinstance(model, EntityModel) else (topics or []),
    )
    if isinstance(model, EntityModel):
        tables.create_entity_table(connection, model, row.relation)
    else:
        tables.create_view_table(connection, model, row.relation)
    tables.create_read_view(connection, row.relation, [column.name for column in model.columns])
    connection.execute(
        "UPDATE mesh.versions SET state = 'previous' WHERE kind = %s AND name = %s AND state = 'live'",
        (kind, model.name),
    )
    connection.execute("UPDATE mesh.versions SET state = 'live', live_at = now() WHERE id = %s", (row.id,))
    raise_generation(connection)
    return row.relation


def _live_entities(connection: psycopg.Connection[Any], view: ViewModel) -> dict[str, int]:
    query = "SELECT name, id FROM mesh.versions WHERE kind = 'entity' AND state = 'live' AND name = ANY(%s)"
    return dict(connection.execute(query, (list(view.entities),)).fetchall())


def insert(url: str, relation: str, *rows: dict[str, Any]) -> None:
    """Write rows straight into a table of schema data."""
    with psycopg.connect(url) as connection:
        for row in rows:
            values = [Jsonb(value) if isinstance(value, dict) else value for value in row.values()]
            connection.execute(
                f'INSERT INTO data."{relation}" ({", ".join(row)}) VALUES ({", ".join(["%s"] * len(row))})',
                values,
            )


def order(order_id: int, **values: Any) -> dict[str, Any]:
    """A row of the view `orders`."""
    return {
        "order_id": order_id,
        "customer": "ALFKI",
        "total": Decimal("440.0000"),
        "express": False,
        "placed_at": datetime.fromisoformat("1996-07-04T00:00:00Z"),
        "shipment_count": 0,
    } | values
