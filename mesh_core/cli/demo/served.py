"""The demo as its users see it: rows that the API serves, and whether they are right."""

from __future__ import annotations

import importlib
import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

KNOWN = {"orders": 830, "lines": 2155, "not shipped": 21, "total": Decimal("1265793.0395")}
"""What everybody who knows Northwind expects."""


@dataclass(frozen=True)
class Finding:
    """One comparison of what is served with what should be."""

    what: str
    served: object
    expected: object

    @property
    def right(self) -> bool:
        """Whether they are the same."""
        return self.served == self.expected


def get(url: str) -> tuple[Any, Mapping[str, str]]:
    """The JSON at a URL of the demo's API, its decimals exact, and the headers. Raises OSError."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # always our own http://127.0.0.1
        return json.loads(answer.read(), parse_float=Decimal), answer.headers


def rows(api: str, view: str) -> Iterator[dict[str, Any]]:
    """All rows of a view, page by page."""
    path: str | None = f"/v1/views/{view}?limit=500"
    while path is not None:
        page, headers = get(api + path)
        yield from page
        following = re.search(r'<([^>]*)>; rel="next"', headers.get("Link", ""))
        path = following[1] if following else None


def compare(api: str) -> list[Finding]:
    """What `order_overview` serves beside the known truths and, order by order, the CSV files."""
    truth: dict[int, dict[str, Any]] = importlib.import_module("projections.northwind.truth").orders()
    served = {row["order_id"]: row for row in rows(api, "order_overview")}
    facts = {
        "orders": len(served),
        "lines": sum(row["line_count"] for row in served.values()),
        "not shipped": sum(row["shipped_at"] is None for row in served.values()),
        "total": sum((row["total"] for row in served.values()), Decimal(0)),
    }
    different = [
        order for order in truth.keys() | served.keys() if not _same(truth.get(order), served.get(order))
    ]
    return [
        *(Finding(name, facts[name], expected) for name, expected in KNOWN.items()),
        Finding("orders that differ from the CSV files", sorted(different)[:10], []),
    ]


def _same(expected: dict[str, Any] | None, row: dict[str, Any] | None) -> bool:
    if expected is None or row is None:
        return False
    found = row | {"shipped": row["shipped_at"] is not None}
    return all(found[name] == value for name, value in expected.items())
