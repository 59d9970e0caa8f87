"""The domain with views that are kept by difference, of its own: most tests need not deploy them."""

from __future__ import annotations

from mesh_core.model import Catalog, View
from tests.engine.domain import (
    Customer,
    Line,
    Loyalty,
    Order,
    Product,
    Tally,
    customer,
    customer_overview,
    lines,
    order_friends,
    order_overview,
    orders,
    product_sales,
    workflow_overview,
)

order_totals = View(
    "order_totals",
    Order,
    doc="Nothing but counts and sums over lines: these are kept by difference.",
    order_id=Order.order_id,
    customer_name=customer[Customer.name],
    line_count=lines.count(),
    total=lines.sum(Line.unit_price * Line.quantity),
    several=lines.count(where=Line.quantity > 1),
    cheap=lines.sum(Line.quantity, where=(Line.unit_price < 3) & (Line.product_id == 1)),
)
customer_totals = View(
    "customer_totals",
    Customer,
    doc="Of children that go from one parent to another.",
    customer_id=Customer.customer_id,
    name=Customer.name,
    order_count=orders.count(),
    noted=orders.count(where=Order.note.is_not_null()),
    numbers=orders.sum(Order.order_id),
    lifetime=orders[lines].sum(Line.unit_price),
)

CATALOG = Catalog.of(
    entities=[Customer, Loyalty, Order, Line, Tally, Product],
    views=[
        order_overview,
        customer_overview,
        product_sales,
        workflow_overview,
        order_friends,
        order_totals,
        customer_totals,
    ],
)
