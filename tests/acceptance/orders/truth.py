"""What the services say of order `n` at its revision `r`, and what a row of either version must then be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from mesh_core.model import Event
from projections.northwind.events import (
    CustomerRegistered,
    EmployeeHired,
    Item,
    OrderPlaced,
    ProductAdded,
    ShipmentBooked,
    ShipperRegistered,
)

CUSTOMERS, EMPLOYEES, PRODUCTS, SHIPPED = 1_000, 9, 77, 20
FIRST_DAY = date(2026, 1, 1)
DISCOUNT = Decimal("0.1")
Version = Literal["before", "after"]


def history(orders: int) -> Iterator[Event]:
    """All events; every order at its revision 0, every twentieth with a shipment."""
    for n in range(CUSTOMERS):
        yield CustomerRegistered(customer_id=f"C{n}", company_name=f"Company {n}")
    for n in range(EMPLOYEES):
        yield EmployeeHired(employee_id=n, name=f"Employee {n}")
    for n in range(PRODUCTS):
        yield ProductAdded(product_id=n, product_name=f"Product {n}")
    yield ShipperRegistered(shipper_id=1, company_name="Speedy")
    for n in range(0, orders, SHIPPED):
        yield ShipmentBooked(order_id=n, shipper_id=1, freight=Decimal(n % 90), ship_city=f"City {n}")
    for n in range(orders):
        yield placed(n)


def placed(n: int, r: int = 0) -> OrderPlaced:
    """Order `n` at its revision `r`, which its `required_on` tells."""
    return OrderPlaced(
        order_id=n,
        customer_id=f"C{(n + r) % CUSTOMERS}",
        placed_at=_placed_at(n),
        items=_items(n, r),
        employee_id=(n + r) % EMPLOYEES,
        required_on=FIRST_DAY + timedelta(r),
    )


def version_of(row: dict[str, Any]) -> Version:
    """Which version answered. Raises AssertionError unless the whole row is what that one must say."""
    version: Version = "after" if "units" in row else "before"
    n, r = row["order_id"], (date.fromisoformat(row["required_on"]) - FIRST_DAY).days
    items, shipped = _items(n, r), n % SHIPPED == 0
    paid = 1 if version == "after" else 1 - DISCOUNT
    right = {
        "order_id": n,
        "customer_id": f"C{(n + r) % CUSTOMERS}",
        "customer_name": f"Company {(n + r) % CUSTOMERS}",
        "employee_name": f"Employee {(n + r) % EMPLOYEES}",
        "placed_at": _placed_at(n),
        "required_on": (FIRST_DAY + timedelta(r)).isoformat(),
        "shipper_name": "Speedy" if shipped else None,
        "shipped_at": None,
        "ship_city": f"City {n}" if shipped else None,
        "ship_country": None,
        "freight": n % 90 if shipped else None,
        "line_count": 2,
        "total": sum(item.unit_price * item.quantity * paid for item in items),
        "products": [f"Product {number}" for number in sorted(item.product_id for item in items)],
        **({"units": sum(item.quantity for item in items)} if version == "after" else {}),
    }
    given = row | {"placed_at": datetime.fromisoformat(row["placed_at"])}
    assert given == right, (row, right)
    return version


def _placed_at(n: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n)


def _items(n: int, r: int) -> list[Item]:
    return [
        Item(
            product_id=(n + r + k) % PRODUCTS,
            unit_price=Decimal(n % 997) / 4,
            quantity=1 + r + k,
            discount=DISCOUNT,
        )
        for k in (0, 1)
    ]
