"""A small domain to run commands on: items, their sales, and a view that joins them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from mesh_core.model import Col, Entity, Event, Key, View, many, upsert


class ItemAdded(Event, type="shop.item.added.v1"):
    key_fields = ("item_id",)
    item_id: int
    name: str
    price: Decimal


class ItemSold(Event, type="shop.sale.made.v1"):
    key_fields = ("sale_id",)
    sale_id: int
    item_id: int
    quantity: int


class Item(Entity, service="shop"):
    item_id: Key[int]
    name: Col[str]
    price: Col[Decimal]
    folds = upsert(ItemAdded)


class Sale(Entity, service="shop"):
    sale_id: Key[int]
    item_id: Col[int]
    quantity: Col[int]
    folds = upsert(ItemSold)


sales = many(Sale.item_id, Item.item_id)
shop_overview = View(
    "shop_overview", Item, item_id=Item.item_id, name=Item.name, units_sold=sales.sum(Sale.quantity)
)

TOPIC = "shop.events"
WORKFLOW = "0198a000-0000-7000-8000-000000000001"


def added(item_id: int, name: str = "Teapot", **changes: Any) -> dict[str, Any]:
    data = {"item_id": item_id, "name": name, "price": 24.5}
    return envelope("shop.item.added.v1", item_id, data) | changes


def sold(sale_id: int, item_id: int, quantity: int = 1, **changes: Any) -> dict[str, Any]:
    data = {"sale_id": sale_id, "item_id": item_id, "quantity": quantity}
    return envelope("shop.sale.made.v1", sale_id, data) | changes


def envelope(kind: str, key: int, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{kind}-{key}",
        "source": "/shop",
        "type": kind,
        "subject": str(key),
        "time": "2026-01-01T09:00:00Z",
        "data": data,
    }


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)
