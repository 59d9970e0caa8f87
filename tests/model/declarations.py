"""Small declarations that the tests of the model build on."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from mesh_core.model import Col, Entity, Event, Key, Part, column, delete, many, one, patch, upsert


class Item(Part):
    product_id: int
    price: Decimal
    tags: list[str] | None = None


class Placed(Event, type="model.order.placed.v1"):
    """An order was placed."""

    order_id: int
    customer_id: str
    placed_at: datetime
    weight: float = 0.5
    note: str | None = None
    extra: dict[str, Any] | None = None
    items: list[Item]


class Noted(Event, type="model.order.noted.v1"):
    order: int
    text: str | None


class Cancelled(Event, type="model.order.cancelled.v1"):
    order_id: int


class Saved(Event, type="model.customer.saved.v1"):
    customer_id: str
    name: str
    country_id: int


class CountrySaved(Event, type="model.country.saved.v1"):
    country_id: int
    name: str


class Order(Entity, service="model"):
    """An order."""

    order_id: Key[int]
    customer_id: Col[str]
    placed_at: Col[datetime]
    weight: Col[float]
    note: Col[str | None]
    folds = upsert(Placed), patch(Noted, order_id=Noted.order, note=Noted.text), delete(Cancelled)


class Line(Entity, service="model"):
    order_id: Key[int]
    product_id: Key[int]
    price: Col[Decimal] = column(precision=10, scale=2)
    folds = upsert(Placed, each=Placed.items), delete(Cancelled)


class Customer(Entity, service="model"):
    customer_id: Key[str]
    name: Col[str]
    country_id: Col[int]
    folds = upsert(Saved)


class Country(Entity, service="model"):
    country_id: Key[int]
    name: Col[str]
    folds = upsert(CountrySaved)


customer = one(Order.customer_id, Customer.customer_id)
country = one(Customer.country_id, Country.country_id)
order = one(Line.order_id, Order.order_id)
lines = many(Line.order_id, Order.order_id)
orders = many(Order.customer_id, Customer.customer_id)
customers = many(Customer.country_id, Country.country_id)
