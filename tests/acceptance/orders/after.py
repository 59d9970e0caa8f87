"""The same with another `order_overview`: a new column, and a total that leaves discounts out."""

from mesh_core.model import View
from projections.northwind.entities import Customer, Employee, Line, Order, Product, Shipment, Shipper
from projections.northwind.views import customer, employee, lines, product, shipment, shipper

order_overview = View(
    "order_overview",
    Order,
    order_id=Order.order_id,
    customer_id=Order.customer_id,
    customer_name=customer[Customer.company_name],
    employee_name=employee[Employee.name],
    placed_at=Order.placed_at,
    required_on=Order.required_on,
    shipper_name=shipper[Shipper.company_name],
    shipped_at=shipment[Shipment.shipped_at],
    ship_city=shipment[Shipment.ship_city],
    ship_country=shipment[Shipment.ship_country],
    freight=shipment[Shipment.freight],
    line_count=lines.count(),
    total=lines.sum(Line.unit_price * Line.quantity),
    products=lines.list(product[Product.product_name], by=Line.product_id, limit=99),
    units=lines.sum(Line.quantity),
)

__all__ = ["Customer", "Employee", "Line", "Order", "Product", "Shipment", "Shipper", "order_overview"]
