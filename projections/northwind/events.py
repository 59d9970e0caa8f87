"""What the five services of Northwind publish."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from mesh_core.model import Event, Part


class CustomerRegistered(Event, type="crm.customer.registered.v1"):
    """A customer was registered, or registered anew with other details."""

    key_fields = ("customer_id",)
    customer_id: str
    company_name: str
    contact_name: str | None = None
    contact_title: str | None = None
    address: str | None = None
    city: str | None = None
    region: str | None = None
    postal_code: str | None = None
    country: str | None = None
    phone: str | None = None
    fax: str | None = None


class EmployeeHired(Event, type="hr.employee.hired.v1"):
    """Somebody was hired. `name` is the full name, `reports_to` the superior's employee_id."""

    key_fields = ("employee_id",)
    employee_id: int
    name: str
    title: str | None = None
    hired_on: date | None = None
    city: str | None = None
    country: str | None = None
    reports_to: int | None = None


class CategoryAdded(Event, type="inventory.category.added.v1"):
    """A category of products was added."""

    key_fields = ("category_id",)
    category_id: int
    category_name: str
    description: str | None = None


class SupplierRegistered(Event, type="inventory.supplier.registered.v1"):
    """A supplier was registered."""

    key_fields = ("supplier_id",)
    supplier_id: int
    company_name: str
    contact_name: str | None = None
    city: str | None = None
    country: str | None = None
    phone: str | None = None


class ProductAdded(Event, type="inventory.product.added.v1"):
    """A product was added to the range. `unit_price` is the list price in dollars."""

    key_fields = ("product_id",)
    product_id: int
    product_name: str
    supplier_id: int | None = None
    category_id: int | None = None
    quantity_per_unit: str | None = None
    unit_price: Decimal | None = None
    units_in_stock: int | None = None
    units_on_order: int | None = None
    reorder_level: int | None = None
    discontinued: bool = False


class Item(Part):
    """A line of an order: so many of a product at a price in dollars, less a discount from 0 to 1."""

    product_id: int
    unit_price: Decimal
    quantity: int
    discount: Decimal


class OrderPlaced(Event, type="sales.order.placed.v1"):
    """A customer placed an order, or changed it: the items replace those of before."""

    key_fields = ("order_id",)
    order_id: int
    customer_id: str
    placed_at: datetime
    items: list[Item]
    employee_id: int | None = None
    required_on: date | None = None


class OrderCancelled(Event, type="sales.order.cancelled.v1"):
    """An order was cancelled."""

    key_fields = ("order_id",)
    order_id: int


class ShipperRegistered(Event, type="logistics.shipper.registered.v1"):
    """A shipping company was registered."""

    key_fields = ("shipper_id",)
    shipper_id: int
    company_name: str
    phone: str | None = None


class ShipmentBooked(Event, type="logistics.shipment.booked.v1"):
    """The shipment of an order was booked with a shipper. `freight` is its cost in dollars."""

    key_fields = ("order_id",)
    order_id: int
    shipper_id: int
    freight: Decimal | None = None
    ship_name: str | None = None
    ship_address: str | None = None
    ship_city: str | None = None
    ship_region: str | None = None
    ship_postal_code: str | None = None
    ship_country: str | None = None


class ShipmentSent(Event, type="logistics.shipment.sent.v1"):
    """The shipment of an order left."""

    key_fields = ("order_id",)
    order_id: int
    at: datetime
