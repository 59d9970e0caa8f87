"""Declarations are plain data: they survive JSON, and fingerprints say when something that counts changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from mesh_core.model import (
    Catalog,
    Col,
    CustomView,
    Entity,
    Event,
    Key,
    View,
    by_workflow,
    column,
    one,
    upsert,
)
from mesh_core.model.builtin import BUILT_IN_ENTITIES, Workflow
from mesh_core.model.entity import EntityModel
from mesh_core.model.expressions import Expr
from mesh_core.model.identifiers import key_parts, key_text
from mesh_core.model.plain import expression_from_json, expression_to_json
from mesh_core.model.view_model import ViewModel
from tests.engine.domain import CATALOG
from tests.model.declarations import (
    Country,
    Customer,
    Line,
    Order,
    Placed,
    country,
    customer,
    customers,
    lines,
    order,
    orders,
)

EXPRESSIONS: list[Expr[Any, Any]] = [
    Order.note,
    customer[Customer.name],
    lines.sum(Line.price * 2 - Decimal("0.10")),
    lines.count(where=(order[Order.note] == "x") & ~(Line.price > 5) | Line.product_id.is_null()),
    lines.list(Line.product_id, by=Line.price, limit=7),
    orders.latest(Order.note, by=Order.placed_at),
    customers[orders][lines].max(Line.price, where=order[customer[country[Country.name]]] != "CH"),
    Order.note.or_else("none"),
    by_workflow(Workflow, Order).count(where=Order.placed_at >= "2026-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=repr)
def test_expressions_survive_json(expression: Expr[Any, Any]) -> None:
    plain = expression_to_json(expression)
    again = expression_from_json(json.loads(json.dumps(plain)))
    assert expression_to_json(again) == plain
    assert (again.root, again.type) == (expression.root, expression.type)


@pytest.mark.parametrize("model", CATALOG.entities.values(), ids=lambda model: model.name)
def test_entities_survive_json(model: EntityModel) -> None:
    again = EntityModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again.to_json() == model.to_json()
    assert (again.key, again.record_key, again.topic, again.table) == (
        model.key,
        model.record_key,
        model.topic,
        model.table,
    )


@pytest.mark.parametrize("model", CATALOG.views.values(), ids=lambda model: model.name)
def test_views_survive_json(model: ViewModel) -> None:
    again = ViewModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again.to_json() == model.to_json()
    assert (again.paths, again.references, again.entities) == (model.paths, model.references, model.entities)


def test_edges_nest_three_deep_and_more() -> None:
    view = View(
        "deep",
        Country,
        country_id=Country.country_id,
        spent=customers[orders][lines].sum(Line.price),
        home=customers[orders][lines].count(where=order[customer[country[Country.name]]] == "CH"),
    )
    assert max(map(len, view.model.paths)) == 6
    assert view.model.entities == {"model.country", "model.customer", "model.order", "model.line"}
    assert ((*customers[orders][lines].path,), "price") in view.model.references


def test_a_view_over_workflows_reads_their_entries() -> None:
    view = View("w", Workflow, workflow_id=Workflow.workflow_id, n=by_workflow(Workflow, Order).count())
    assert view.model.entities == {"mesh.workflow", "mesh.workflow_entry", "model.order"}
    catalog = Catalog.of([], [Order], [view])
    assert {"mesh.workflow", "mesh.workflow_entry"} <= set(catalog.entities)
    assert catalog.topics == ("mesh.events", "model.events")


def test_a_custom_view_is_found_with_its_edges() -> None:
    custom = CustomView(
        "custom",
        Customer,
        number=3,
        sql="SELECT customer_id, 1 AS n FROM {model_customer} JOIN {model_order} USING (customer_id)",
        columns={"customer_id": str, "n": int | None},
        edges=[orders],
    )
    assert custom.model.entities == {"model.customer", "model.order"}
    again = ViewModel.from_json(json.loads(json.dumps(custom.model.to_json())))
    assert (again.sql, again.number, again.paths) == (custom.model.sql, 3, custom.model.paths)
    assert [column.type.nullable for column in again.columns] == [False, True]


def declared(
    doc: str = "",
    event_doc: str = "",
    precision: int = 9,
    extra: bool = False,
    limit: int = 5,
) -> Catalog:
    """A small catalog, varied in one way or another."""
    fields = {"thing_id": int, "size": Decimal, **({"more": int | None} if extra else {})}
    metaclass: Any = type(Event)
    said = metaclass(
        "Said",
        (Event,),
        {"__module__": __name__, "__doc__": event_doc, "__annotations__": fields},
        type="finger.thing.said.v1",
    )
    metaclass = type(Entity)
    thing = metaclass(
        "Thing",
        (Entity,),
        {
            "__module__": __name__,
            "__doc__": doc,
            "__annotations__": {"thing_id": Key[int], "size": Col[Decimal]},
            "size": column(precision=precision, scale=2),
            "folds": upsert(said),
        },
        service="finger",
    )
    model: Any = thing
    same = one(model.thing_id, model.thing_id)
    view: Any = View("things", model, doc=doc, thing_id=model.thing_id, size=same[model.size] * limit)
    return Catalog.of([], [model], [view])


def test_fingerprints_leave_documentation_out() -> None:
    assert declared("one", "two").fingerprint("things") == declared("three", "four").fingerprint("things")
    assert declared("one").fingerprint("finger.thing") == declared("two").fingerprint("finger.thing")


@pytest.mark.parametrize(
    ("changed", "entity_changes"),
    [
        (lambda: declared(precision=8), True),
        (lambda: declared(extra=True), True),
        (lambda: declared(limit=6), False),
    ],
)
def test_fingerprints_cover_what_is_read_transitively(
    changed: Callable[[], Catalog], entity_changes: bool
) -> None:
    before, after = declared(), changed()
    assert before.fingerprint("things") != after.fingerprint("things")
    assert (before.fingerprint("finger.thing") != after.fingerprint("finger.thing")) == entity_changes


def test_fingerprints_do_not_depend_on_the_process() -> None:
    assert declared().fingerprint("things") == declared().fingerprint("things")
    catalog = declared()
    restored = EntityModel.from_json(json.loads(json.dumps(catalog.entities["finger.thing"].to_json())))
    again = Catalog({}, {"finger.thing": restored})
    assert again.fingerprint("finger.thing") == catalog.fingerprint("finger.thing")


def test_record_keys_are_the_parents_where_each_makes_rows() -> None:
    assert Line.model.record_key == ("order_id",)
    assert Line.model.key == ("order_id", "product_id")
    assert Order.model.record_key == ("order_id",)
    assert [entity.model.record_key for entity in BUILT_IN_ENTITIES] == [
        ("workflow_id",),
        ("workflow_id",),
        ("name",),
        ("role",),
        ("role", "resource"),
        ("service",),
    ]


def test_key_texts_go_there_and_back() -> None:
    assert key_text([1]) == "1"
    assert key_text(["a,b"]) == "a,b"
    assert key_text(["a,b", 2, "é%/"]) == "a%2Cb,2,%C3%A9%25%2F"
    assert key_parts("a%2Cb,2,%C3%A9%25%2F", 3) == ("a,b", "2", "é%/")
    with pytest.raises(ValueError, match="2 parts, not 3"):
        key_parts("a,b", 3)


def test_a_catalog_is_loaded_from_modules() -> None:
    catalog = Catalog.load("tests.model.declarations")
    assert "model.order" in catalog.entities
    assert catalog.contracts[Placed.type].doc == "An order was placed."
    assert catalog.entities["model.order"].doc == "An order."


class Stray(Event, type="stray.thing.said.v1"):
    thing_id: int


def test_events_of_no_entity_are_part_of_the_catalog() -> None:
    assert Stray.type in Catalog.of([Stray]).contracts
