"""A small but nasty domain: every kind of fold, edge and roll-up, in three services and the mesh's own."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from mesh_core.model import (
    Catalog,
    Col,
    Entity,
    Event,
    Key,
    Part,
    View,
    add,
    by_workflow,
    column,
    delete,
    many,
    max_,
    min_,
    one,
    patch,
    upsert,
)
from mesh_core.model.builtin import Workflow


class CustomerSaved(Event, type="crm.customer.saved.v1"):
    customer_id: str
    name: str
    city: str | None = None
    tags: dict[str, Any] | None = None


class CustomerRenamed(Event, type="crm.customer.renamed.v1"):
    customer_id: str
    name: str


class CustomerVisited(Event, type="crm.customer.visited.v1"):
    customer_id: str
    points: int
    spent: Decimal
    at: datetime


class CustomerRemoved(Event, type="crm.customer.removed.v1"):
    customer_id: str


class Customer(Entity, service="crm"):
    customer_id: Key[str]
    name: Col[str]
    city: Col[str | None]
    tags: Col[dict[str, Any] | None]
    folds = upsert(CustomerSaved), patch(CustomerRenamed), delete(CustomerRemoved)


class Loyalty(Entity, service="crm"):
    """Adds by sequence; greatest and least."""

    customer_id: Key[str]
    points: Col[int]
    spent: Col[Decimal]
    best: Col[int]
    first_at: Col[datetime]
    folds = (
        upsert(
            CustomerVisited,
            points=add(CustomerVisited.points),
            spent=add(CustomerVisited.spent),
            best=max_(CustomerVisited.points),
            first_at=min_(CustomerVisited.at),
        ),
        delete(CustomerRemoved),
    )


class Item(Part):
    product_id: int
    quantity: int
    unit_price: Decimal


class OrderPlaced(Event, type="sales.order.placed.v1"):
    order_id: int
    customer_id: str
    placed_at: datetime
    items: list[Item]
    note: str | None = None


class OrderMoved(Event, type="sales.order.moved.v1"):
    order_id: int
    customer_id: str


class OrderNoted(Event, type="sales.order.noted.v1"):
    order_id: int
    note: str | None


class ItemsChanged(Event, type="sales.order.items_changed.v1"):
    order_id: int
    items: list[Item]


class ItemPriced(Event, type="sales.order.item_priced.v1"):
    order_id: int
    product_id: int
    unit_price: Decimal


class OrderClicked(Event, type="sales.order.clicked.v1"):
    order_id: int
    clicks: int


class OrderCancelled(Event, type="sales.order.cancelled.v1"):
    order_id: int


class Order(Entity, service="sales"):
    order_id: Key[int]
    customer_id: Col[str]
    placed_at: Col[datetime]
    note: Col[str | None]
    folds = upsert(OrderPlaced), patch(OrderMoved), patch(OrderNoted), delete(OrderCancelled)


class Line(Entity, service="sales"):
    """Lists that grow and shrink, prices that are refused beyond two places."""

    order_id: Key[int]
    product_id: Key[int]
    quantity: Col[int]
    unit_price: Col[Decimal] = column(precision=8, scale=2)
    folds = (
        upsert(OrderPlaced, each=OrderPlaced.items),
        upsert(ItemsChanged, each=ItemsChanged.items),
        patch(ItemPriced),
        delete(OrderCancelled),
    )


class Tally(Entity, service="sales"):
    """Adds without sequence, within a window."""

    order_id: Key[int]
    clicks: Col[int]
    folds = upsert(OrderClicked, clicks=add(OrderClicked.clicks, window=4)), delete(OrderCancelled)


class ProductListed(Event, type="stock.product.listed.v1"):
    product_id: int
    name: str
    price: Decimal | None = None


class ProductPriced(Event, type="stock.product.priced.v1"):
    product_id: int
    price: Decimal | None


class Product(Entity, service="stock", tombstones=True):
    product_id: Key[int]
    name: Col[str]
    price: Col[Decimal | None]
    folds = upsert(ProductListed), patch(ProductPriced)


customer = one(Order.customer_id, Customer.customer_id)
loyalty = one(customer[Customer.customer_id], Loyalty.customer_id)
tally = one(Order.order_id, Tally.order_id)
product = one(Line.product_id, Product.product_id)
lines = many(Line.order_id, Order.order_id)
orders = many(Order.customer_id, Customer.customer_id)
sold = many(Line.product_id, Product.product_id)
order = one(Line.order_id, Order.order_id)
workflow_orders = by_workflow(Workflow, Order)

order_overview = View(
    "order_overview",
    Order,
    order_id=Order.order_id,
    customer_name=customer[Customer.name],
    points=loyalty[Loyalty.points],
    clicks=tally[Tally.clicks].or_else(0),
    line_count=lines.count(),
    total=lines.sum(Line.unit_price * Line.quantity),
    dear=lines.count(where=product[Product.price] > 5),
    products=lines.list(product[Product.name], by=Line.quantity, limit=3),
    main_product=lines.latest(product[Product.name], by=Line.quantity),
    highest=lines.max(Line.unit_price),
)
customer_overview = View(
    "customer_overview",
    Customer,
    customer_id=Customer.customer_id,
    name=Customer.name,
    tags=Customer.tags,
    order_count=orders.count(),
    noted=orders.count(where=Order.note.is_not_null() & (Order.note != "x")),
    last_note=orders.latest(Order.note, by=Order.placed_at),
    first_note=orders.min(Order.note),
    lifetime=orders[lines].sum(Line.unit_price * Line.quantity - 1),
    names=orders[lines][product].list(Product.name, by=Product.price, limit=4),
)
product_sales = View(
    "product_sales",
    Product,
    product_id=Product.product_id,
    units=sold.sum(Line.quantity),
    buyers=sold.list(order[customer[Customer.name]], by=order[Order.placed_at], limit=5),
    least=sold.min(Line.quantity),
)
workflow_overview = View(
    "workflow_overview",
    Workflow,
    workflow_id=Workflow.workflow_id,
    name=Workflow.name,
    order_count=workflow_orders.count(),
    notes=workflow_orders.list(Order.note, by=Order.placed_at),
    customers=by_workflow(Workflow, Customer).list(Customer.name),
)
order_friends = View(
    "order_friends",
    Order,
    order_id=Order.order_id,
    friends=by_workflow(Order, Customer).list(Customer.name),
    best=by_workflow(Order, Customer).max(Customer.name),
)

CATALOG = Catalog.of(
    entities=[Customer, Loyalty, Order, Line, Tally, Product],
    views=[order_overview, customer_overview, product_sales, workflow_overview, order_friends],
)
PARTITIONS = {"crm.events": 2, "sales.events": 3, "stock.events": 1, "mesh.events": 2}
TOPIC_IDS = {topic: f"id-of-{topic}" for topic in PARTITIONS}
