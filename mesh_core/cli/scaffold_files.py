"""The files of a new domain; DOMAIN stands for its name."""

from __future__ import annotations

from collections.abc import Mapping

_EVENTS = '''"""What the service DOMAIN publishes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from mesh_core.model import Event


class ItemAdded(Event, type="DOMAIN.item.added.v1"):
    """An item is for sale, or is anew with other details."""

    key_fields = ("item_id",)
    item_id: int
    name: str
    price: Decimal


class ItemSold(Event, type="DOMAIN.sale.made.v1"):
    """Some pieces of an item were sold."""

    key_fields = ("sale_id",)
    sale_id: int
    item_id: int
    quantity: int
    sold_at: datetime
'''

_ENTITIES = '''"""The slim copies of what DOMAIN has."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from mesh_core.model import Col, Entity, Key, upsert
from projections.DOMAIN.events import ItemAdded, ItemSold


class Item(Entity, service="DOMAIN"):
    """What is sold."""

    item_id: Key[int]
    name: Col[str]
    price: Col[Decimal]
    folds = upsert(ItemAdded)


class Sale(Entity, service="DOMAIN"):
    """One sale."""

    sale_id: Key[int]
    item_id: Col[int]
    quantity: Col[int]
    sold_at: Col[datetime]
    folds = upsert(ItemSold)
'''

_VIEWS = '''"""The joined rows that DOMAIN serves."""

from __future__ import annotations

from mesh_core.model import View, many
from mesh_core.model.grants import grant
from projections.DOMAIN.entities import Item, Sale

sales = many(Sale.item_id, Item.item_id)

DOMAIN_overview = View(
    "DOMAIN_overview",
    Item,
    doc="An item with what was sold of it.",
    item_id=Item.item_id,
    name=Item.name,
    price=Item.price,
    sale_count=sales.count(),
    units_sold=sales.sum(Sale.quantity),
    last_sold_at=sales.max(Sale.sold_at),
)

# Nobody sees what is not granted to one of their roles; who sends no token may have this one.
grants = [grant(DOMAIN_overview, "anonymous")]
'''

_TEST = '''"""The sample events make the rows that one expects, on real Kafka and Postgres."""

from __future__ import annotations

from projections.conftest import Projected


def test_the_sample_events_make_the_overview(projected: Projected) -> None:
    """Delivered twice, they make the same rows."""
    mesh = projected("projections.DOMAIN", history="history.jsonl", times=2)
    rows = mesh.rows("DOMAIN_overview", "item_id", "name", "sale_count", "units_sold")
    assert rows == [(1, "Teapot", 2, 3), (2, "Cup", 0, 0)]
'''

_HISTORY = "".join(
    f'{{"specversion": "1.0", "id": "DOMAIN-{number}", "source": "/DOMAIN", "type": "DOMAIN.{kind}.v1", '
    f'"subject": "{key}", "time": "2026-01-0{number}T09:00:00Z", "data": {data}}}\n'
    for number, (kind, key, data) in enumerate(
        (
            ("item.added", 1, '{"item_id": 1, "name": "Teapot", "price": 24.90}'),
            ("item.added", 2, '{"item_id": 2, "name": "Cup", "price": 6.50}'),
            (
                "sale.made",
                1,
                '{"sale_id": 1, "item_id": 1, "quantity": 1, "sold_at": "2026-01-03T09:00:00Z"}',
            ),
            (
                "sale.made",
                2,
                '{"sale_id": 2, "item_id": 1, "quantity": 2, "sold_at": "2026-01-04T09:00:00Z"}',
            ),
        ),
        1,
    )
)

FILES: Mapping[str, str] = {
    "__init__.py": '"""DOMAIN: what it publishes, keeps and serves."""\n',
    "events.py": _EVENTS,
    "entities.py": _ENTITIES,
    "views.py": _VIEWS,
    "history.jsonl": _HISTORY,
    "test_DOMAIN.py": _TEST,
}
"""By file name."""
