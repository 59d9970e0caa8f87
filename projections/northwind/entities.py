"""The slim copies of each service's things."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from mesh_core.model import Col, Entity, Key, delete, patch, upsert
from projections.northwind.events import (
    CategoryAdded,
    CustomerRegistered,
    EmployeeHired,
    OrderCancelled,
    OrderPlaced,
    ProductAdded,
    ShipmentBooked,
    ShipmentSent,
    ShipperRegistered,
    SupplierRegistered,
)


class Customer(Entity, service="crm"):
    """Who buys."""

    customer_id: Key[str]
    company_name: Col[str]
    contact_name: Col[str | None]
    city: Col[str | None]
    country: Col[str | None]
    folds = upsert(CustomerRegistered)


class Employee(Entity, service="hr"):
    """Who sells."""

    employee_id: Key[int]
    name: Col[str]
    title: Col[str | None]
    hired_on: Col[date | None]
    reports_to: Col[int | None]
    folds = upsert(EmployeeHired)


class Category(Entity, service="inventory"):
    """What kind of product."""

    category_id: Key[int]
    category_name: Col[str]
    folds = upsert(CategoryAdded)


class Supplier(Entity, service="inventory"):
    """Who makes products."""

    supplier_id: Key[int]
    company_name: Col[str]
    country: Col[str | None]
    folds = upsert(SupplierRegistered)


class Product(Entity, service="inventory"):
    """What is sold."""

    product_id: Key[int]
    product_name: Col[str]
    supplier_id: Col[int | None]
    category_id: Col[int | None]
    unit_price: Col[Decimal | None]
    discontinued: Col[bool]
    folds = upsert(ProductAdded)


class Order(Entity, service="sales"):
    """What a customer ordered."""

    order_id: Key[int]
    customer_id: Col[str]
    employee_id: Col[int | None]
    placed_at: Col[datetime]
    required_on: Col[date | None]
    folds = upsert(OrderPlaced), delete(OrderCancelled)


class Line(Entity, service="sales"):
    """One product of an order."""

    order_id: Key[int]
    product_id: Key[int]
    unit_price: Col[Decimal]
    quantity: Col[int]
    discount: Col[Decimal]
    folds = upsert(OrderPlaced, each=OrderPlaced.items), delete(OrderCancelled)


class Shipper(Entity, service="logistics"):
    """Who carries shipments."""

    shipper_id: Key[int]
    company_name: Col[str]
    folds = upsert(ShipperRegistered)


class Shipment(Entity, service="logistics"):
    """What logistics says of an order. `shipped_at` is null until it left."""

    order_id: Key[int]
    shipper_id: Col[int]
    freight: Col[Decimal | None]
    ship_name: Col[str | None]
    ship_city: Col[str | None]
    ship_country: Col[str | None]
    shipped_at: Col[datetime | None]
    folds = upsert(ShipmentBooked), patch(ShipmentSent, shipped_at=ShipmentSent.at)
