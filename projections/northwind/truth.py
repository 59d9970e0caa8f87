"""What Northwind's files say of every order, in plain Python: the demo is checked against it."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.resources import files
from io import StringIO
from typing import Any


def orders() -> dict[int, dict[str, Any]]:
    """By order id, values that its row in `order_overview` must have; `shipped` stands for a `shipped_at`."""
    customers = {row["customer_id"]: row["company_name"] for row in _rows("customers")}
    employees = {row["employee_id"]: f"{row['first_name']} {row['last_name']}" for row in _rows("employees")}
    shippers = {row["shipper_id"]: row["company_name"] for row in _rows("shippers")}
    products = {row["product_id"]: row["product_name"] for row in _rows("products")}
    lines: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in _rows("order_details"):
        lines[row["order_id"]].append(row)
    return {
        int(row["order_id"]): {
            "customer_name": customers[row["customer_id"]],
            "employee_name": employees[row["employee_id"]],
            "shipper_name": shippers[row["ship_via"]],
            "shipped": bool(row["shipped_date"]),
            "line_count": len(lines[row["order_id"]]),
            "total": sum((_amount(line) for line in lines[row["order_id"]]), Decimal(0)),
            "products": [
                products[line["product_id"]]
                for line in sorted(lines[row["order_id"]], key=lambda line: int(line["product_id"]))
            ],
        }
        for row in _rows("orders")
    }


def _amount(line: Mapping[str, str]) -> Decimal:
    return Decimal(line["unit_price"]) * int(line["quantity"]) * (1 - Decimal(line["discount"]))


def _rows(name: str) -> Iterator[Mapping[str, str]]:
    text = (files("projections.northwind") / "data" / f"{name}.csv").read_text(encoding="utf-8")
    yield from csv.DictReader(StringIO(text, newline=""))
