"""The catalog that serves: Northwind's orders alone."""

from projections.northwind.entities import Customer, Employee, Line, Order, Product, Shipment, Shipper
from projections.northwind.views import order_overview

__all__ = ["Customer", "Employee", "Line", "Order", "Product", "Shipment", "Shipper", "order_overview"]
