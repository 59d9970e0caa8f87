"""History that is copied in bulk comes to the rows and counts that it has batch by batch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from mesh_core.engine import building, bulk, entity_builds, reading
from mesh_core.engine.errors import DeployRefused
from mesh_core.model import Catalog, Col, Entity, Event, Key, Part, delete, upsert
from mesh_core.settings import Settings
from tests.engine.desk import relations
from tests.support.mesh import OUTCOMES, Mesh
from tests.support.services import Services, fresh_database


class Item(Part):
    product_id: int
    quantity: int


class BasketFilled(Event, type="shop.basket.filled.v1"):
    basket_id: str
    items: list[Item]


class BasketEmptied(Event, type="shop.basket.emptied.v1"):
    basket_id: str
    visitor_id: str


class BasketLost(Event, type="shop.basket.lost.v1"):
    basket_id: str


class VisitorCame(Event, type="shop.visitor.came.v1"):
    visitor_id: str


class Basket(Entity, service="shop"):
    basket_id: Key[str]
    folds = upsert(BasketFilled), delete(BasketEmptied), delete(BasketLost)


class Line(Entity, service="shop"):
    """Stays when its basket is lost."""

    basket_id: Key[str]
    product_id: Key[int]
    quantity: Col[int]
    folds = upsert(BasketFilled, each=BasketFilled.items), delete(BasketEmptied)


class Visitor(Entity, service="shop"):
    """Refuses what has the key of a basket that is not called like a visitor."""

    visitor_id: Key[str]
    folds = upsert(VisitorCame), delete(BasketEmptied)


CATALOG = Catalog.of(entities=[Basket, Line, Visitor], views=[])
NAMES = "ABCDEFG"


@pytest.fixture
def full(settings: Settings) -> Iterator[Mesh]:
    mesh = Mesh(settings, CATALOG)
    with mesh.driver.admin() as admin:
        for topic in CATALOG.topics:
            admin.create_topic(topic, 2, 1)
    yield mesh
    mesh.close()


@pytest.fixture
def other(full: Mesh, services: Services) -> Iterator[Mesh]:
    """Another mesh on the same topics."""
    with fresh_database(services.database_url) as url:
        yield Mesh(full.settings.model_copy(update={"database_url": SecretStr(url)}), CATALOG)


def tell(mesh: Mesh, chance: random.Random, events: int) -> None:
    for _ in range(events):
        key = chance.choice(NAMES)
        items = [Item(product_id=n, quantity=chance.randrange(9)) for n in range(3) if chance.random() < 0.4]
        visitor = key if chance.random() < 0.7 else "nobody"
        said: list[Event] = [
            BasketFilled(basket_id=key, items=items),
            BasketEmptied(basket_id=key, visitor_id=visitor),
            BasketLost(basket_id=key),
            VisitorCame(visitor_id=key),
        ]
        mesh.publish(chance.choice(said), key)
    mesh.publisher.flush()


def state(mesh: Mesh) -> dict[str, Any]:
    """Rows, counters, and what is held and how it counts."""
    return {
        "rows": {model.table: mesh.rows(model.table) for model in CATALOG.entities.values()},
        "counters": mesh.query(
            f'SELECT topic, "partition", next_offset, {", ".join(OUTCOMES)} FROM mesh.checkpoints ORDER BY 1, 2'
        ),
        "held": {
            (row["topic"], row["partition"], row["offset"], row["otherwise"], row["counted"])
            for row in mesh.held()
        },
    }


@pytest.mark.parametrize("seed", [*(pytest.param(n, marks=pytest.mark.soak) for n in range(2)), 2])
def test_copied_history_counts_as_batch_by_batch(
    full: Mesh, other: Mesh, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "WINDOW_ROWS", 5)
    monkeypatch.setattr(reading, "POLL_RECORDS", 4)
    tell(full, random.Random(seed), 150)
    full.deploy()
    with monkeypatch.context() as patch:
        patch.setattr(entity_builds, "can_be_copied", lambda model: False)
        other.deploy()
    copied, applied = state(full), state(other)
    assert copied == applied
    outcomes = full.outcomes("shop.events")
    assert min(outcomes) >= 0 < outcomes.ignored
    full.deploy(rebuild=list(CATALOG.entities), require_equal=True)
    assert state(full) == applied
    full.assert_sound()


@pytest.mark.parametrize("windows", [1, 2])
def test_lines_of_one_basket_from_two_partitions_refuse_a_build(
    full: Mesh, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they halt a projector, though no two lines have the same key."""
    monkeypatch.setattr(bulk, "WINDOW_ROWS", 100 if windows == 1 else 1)
    monkeypatch.setattr(reading, "POLL_RECORDS", 1)
    head = b'{"specversion":"1.0","id":"x","source":"/x","type":"shop.basket.%s.v1","time":"2026-01-01T00:00:00Z",'
    lost = head % b"lost" + b'"data":{"basket_id":"Z"}}'
    for partition in (0, 1):
        filled = b'"data":{"basket_id":"Z","items":[{"product_id":%d,"quantity":1}]}}' % partition
        full.send("shop.events", b"Z", head % b"filled" + filled, partition=partition)
        full.send("shop.events", b"Z", lost, partition=partition)
    with pytest.raises(DeployRefused, match=r"The key 'Z' of shop\.(line|basket) came from"):
        full.deploy()
    assert relations(full) == {}
    monkeypatch.setattr(entity_builds, "can_be_copied", lambda model: False)
    monkeypatch.setattr(building, "WORTH_A_PROCESS", 1)
    with pytest.raises(DeployRefused, match=r"The key 'Z,\d' of shop\.(line|basket) came from partition"):
        full.deploy(processes=windows)
    assert [state for (state,) in full.query("SELECT state FROM mesh.deploys")] == ["refused", "refused"]
