"""The joined rows that Northwind serves."""

from __future__ import annotations

from mesh_core.model import View, by_workflow, many, one
from mesh_core.model.builtin import Workflow, WorkflowEntry
from projections.northwind.entities import (
    Category,
    Customer,
    Employee,
    Line,
    Order,
    Product,
    Shipment,
    Shipper,
    Supplier,
)

customer = one(Order.customer_id, Customer.customer_id)
employee = one(Order.employee_id, Employee.employee_id)
shipment = one(Order.order_id, Shipment.order_id)
shipper = one(shipment[Shipment.shipper_id], Shipper.shipper_id)
lines = many(Line.order_id, Order.order_id)
product = one(Line.product_id, Product.product_id)
amount = Line.unit_price * Line.quantity * (1 - Line.discount)

order_overview = View(
    "order_overview",
    Order,
    doc="An order with its customer, its shipment and what it is worth, in dollars.",
    docs={
        "shipped_at": "When it left; null while it has not.",
        "total": "What its lines are worth after discounts, without freight.",
        "products": "Names of what was ordered, 99 at most.",
    },
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
    total=lines.sum(amount),
    products=lines.list(product[Product.product_name], by=Line.product_id, limit=99),
)

orders = many(Order.customer_id, Customer.customer_id)

customer_overview = View(
    "customer_overview",
    Customer,
    doc="A customer with all its orders rolled up. An order is open until its shipment left.",
    customer_id=Customer.customer_id,
    company_name=Customer.company_name,
    contact_name=Customer.contact_name,
    city=Customer.city,
    country=Customer.country,
    order_count=orders.count(),
    open_orders=orders.count(where=shipment[Shipment.shipped_at].is_null()),
    lifetime_total=orders[lines].sum(amount),
    last_order_at=orders.max(Order.placed_at),
)

category = one(Product.category_id, Category.category_id)
supplier = one(Product.supplier_id, Supplier.supplier_id)
sales = many(Line.product_id, Product.product_id)

product_sales = View(
    "product_sales",
    Product,
    doc="A product with what was sold of it, over all orders; revenue in dollars.",
    product_id=Product.product_id,
    product_name=Product.product_name,
    category_name=category[Category.category_name],
    supplier_name=supplier[Supplier.company_name],
    unit_price=Product.unit_price,
    discontinued=Product.discontinued,
    order_count=sales.count(),
    units_sold=sales.sum(Line.quantity),
    revenue=sales.sum(amount),
)

entries = many(WorkflowEntry.workflow_id, Workflow.workflow_id)
workflow_orders = by_workflow(Workflow, Order)
workflow_shipments = by_workflow(Workflow, Shipment)

workflow_overview = View(
    "workflow_overview",
    Workflow,
    doc="A workflow with the order and the shipment that it ties together.",
    workflow_id=Workflow.workflow_id,
    name=Workflow.name,
    created_at=Workflow.created_at,
    entry_count=entries.count(),
    order_id=workflow_orders.min(Order.order_id),
    customer_name=workflow_orders[customer].min(Customer.company_name),
    placed_at=workflow_orders.min(Order.placed_at),
    total=workflow_orders[lines].sum(amount),
    shipment_count=workflow_shipments.count(),
    shipped_at=workflow_shipments.max(Shipment.shipped_at),
)
