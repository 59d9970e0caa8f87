"""A view declared as data is the view declared in Python: the same checks, the same fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from mesh_core.model import Catalog, DeclarationError, View, by_workflow
from mesh_core.model.builtin import Workflow
from mesh_core.model.view_model import ViewModel
from tests.engine.domain import CATALOG
from tests.model.declarations import (
    Country,
    Customer,
    Line,
    Order,
    country,
    customer,
    customers,
    lines,
    order,
    orders,
)

NORTHWIND = Catalog.load("projections.northwind")
EVERYTHING = View(
    "everything",
    Order,
    order_id=Order.order_id,
    name=customer[Customer.name],
    country=customer[country[Country.name]],
    note=Order.note.or_else("none"),
    worth=lines.sum(Line.price * 2 - Decimal("0.10"), where=~(Line.price > 5) | Line.product_id.is_null()),
    late=Order.placed_at >= "2026-01-01T00:00:00Z",
    products=lines.list(Line.product_id, by=Line.price, limit=7),
    of_others=customer[orders].latest(Order.note, by=Order.placed_at),
    dearest=lines.max(Line.price, where=order[Order.note] == "x"),
    together=by_workflow(Order, Workflow).count(),
    doc="An order with everything.",
    docs={"worth": "In francs."},
    indexes=["name", ("note", "worth")],
    cache=60,
)
HOME = View(
    "home",
    Country,
    country_id=Country.country_id,
    spent=customers[orders][lines].sum(Line.price),
    cache="no-store",
)
MODEL = Catalog.of(entities=[Order, Line, Customer, Country], views=[EVERYTHING, HOME])
TREES = [
    (catalog, view)
    for catalog in (MODEL, NORTHWIND, CATALOG)
    for view in catalog.views.values()
    if view.sql is None
]


@pytest.mark.parametrize(("catalog", "view"), TREES, ids=lambda given: getattr(given, "name", ""))
def test_what_python_declares_can_be_registered_as_data(catalog: Catalog, view: ViewModel) -> None:
    document = json.loads(json.dumps(view.to_document()))
    for data in (document, as_a_person_writes(document, catalog)):
        model = catalog.view_of(data)
        assert model.to_document() == view.to_document()
        registered = Catalog(catalog.contracts, catalog.entities).with_registered({view.name: data})
        assert registered.fingerprint(view.name) == catalog.fingerprint(view.name)


def as_a_person_writes(document: Any, catalog: Catalog) -> Any:
    """The document without anything that can be derived."""
    if isinstance(document, list):
        return [as_a_person_writes(part, catalog) for part in document]
    if not isinstance(document, dict):
        return document
    if "decimal" in document:
        return {"value": Decimal(document["decimal"])}
    left = {"type", "entity", "source"} | ({"key"} if "root" in document else set())
    if document.get("kind") == "one":
        left |= {"target_columns"}
    if document.get("kind") == "many":
        left |= {"source_columns"}
    return {
        name: as_a_person_writes(part, catalog)
        for name, part in document.items()
        if name not in left and part not in (None, [])
    }


def test_what_is_said_of_types_counts_only_where_it_is_written() -> None:
    document = EVERYTHING.model.to_document()
    document["columns"][1]["type"] = {"kind": "int"}
    with pytest.raises(DeclarationError, match=r"everything\.name: the type is .*text.*Leave it out"):
        MODEL.view_of(document)
    assert (
        Catalog(MODEL.contracts, MODEL.entities).with_registered({"everything": document}).views["everything"]
    )


def test_a_registered_view_that_the_code_no_longer_fits_is_named_with_a_remedy() -> None:
    with pytest.raises(
        DeclarationError, match=r"registered view home does not fit.*no entity 'model\.country'.*DELETE"
    ):
        Catalog.of(entities=[Order]).with_registered({"home": HOME.model.to_document()})


def test_what_nobody_checked_when_it_was_published_is_checked_then() -> None:
    for junk, said in (
        ({}, "no name"),
        ({**HOME.model.to_document(), "name": "away"}, "is of away, not of home"),
    ):
        with pytest.raises(DeclarationError, match=f"registered view home does not fit.*{said}"):
            MODEL.with_registered({"home": junk})


def test_code_and_data_may_declare_the_same_view_but_not_two() -> None:
    assert MODEL.with_registered({"home": HOME.model.to_document()}).views == MODEL.views
    with pytest.raises(DeclarationError, match="home is declared twice, differently"):
        MODEL.with_registered({"home": HOME.model.to_document() | {"cache": 5}})


KEY = {"name": "order_id", "expression": {"column": "order_id"}}
TO_LINES = {"kind": "many", "target": "model.line", "target_columns": ["order_id"]}
TO_CUSTOMER = {"kind": "one", "target": "model.customer", "source_columns": ["customer_id"]}
TO_ORDERS = {"kind": "many", "target": "model.order", "target_columns": ["customer_id"]}


def with_column(expression: Any, **more: Any) -> dict[str, Any]:
    return {
        "name": "v",
        "root": "model.order",
        "columns": [KEY, {"name": "x", "expression": expression, **more}],
    }


def sum_of(argument: Any, **more: Any) -> dict[str, Any]:
    return with_column({"rollup": "sum", "path": [TO_LINES], "argument": argument, **more})


REFUSED: dict[str, tuple[Any, str]] = {
    "no object": ([], "declaration is an object"),
    "no name": ({}, "no name"),
    "a bad name": (
        {"name": "Order", "root": "model.order", "columns": [KEY]},
        "View 'Order' is not a lower-case",
    ),
    "no columns": ({"name": "v", "root": "model.order"}, "v: columns is missing"),
    "an unknown root": (
        {"name": "v", "root": "model.other", "columns": []},
        "v: root: there is no entity 'model.other'",
    ),
    "an unknown word": (
        {"name": "v", "root": "model.order", "columns": [KEY], "colums": []},
        "v: 'colums' has no meaning",
    ),
    "a wrong key": (
        {"name": "v", "root": "model.order", "key": ["x"], "columns": [KEY]},
        "v: the key is that of",
    ),
    "no key column": (
        {"name": "v", "root": "model.order", "columns": []},
        "v: the root's key column order_id",
    ),
    "two of a name": (
        {"name": "v", "root": "model.order", "columns": [KEY, KEY]},
        r"v\.order_id: there are two",
    ),
    "a bad column name": (
        {"name": "v", "root": "model.order", "columns": [KEY | {"name": "a__b"}]},
        "v: 'a__b'",
    ),
    "sql": ({"name": "v", "root": "model.order", "sql": "SELECT 1"}, "v: sql belongs to .* in code only"),
    "the name of an entity": (
        {"name": "model_order", "root": "model.order", "columns": [KEY]},
        "the name of the entity",
    ),
    "an index of nothing": (with_column({"value": 1}) | {"indexes": ["y"]}, "v: there is no column y"),
    "an index of a number": (
        with_column({"value": 1}) | {"indexes": [7]},
        "v: indexes: names is a list, not 7",
    ),
    "a cache level of a text": (with_column({"value": 1}) | {"cache": "60"}, "v: the cache level '60'"),
    "a doc of a number": (with_column({"value": 1}, doc=7), r"v\.x: doc is text"),
    "an expression of nothing": (with_column({}), r"v\.x: an expression has one of"),
    "a float that is none": (with_column({"decimal": "much"}), r"v\.x: 'much' is not a number"),
    "an unknown column": (with_column({"column": "nothing"}), r"v\.x: model\.order has no column 'nothing'"),
    "a column of many": (
        with_column({"column": "price", "path": [TO_LINES]}),
        r"v\.x: .*not one value.*Roll it up",
    ),
    "another entity": (
        with_column({"column": "name", "entity": "model.order", "path": [TO_CUSTOMER]}),
        r"v\.x: the path ends",
    ),
    "a path of nothing": (
        with_column({"rollup": "count", "path": []}),
        r"v\.x: the path of count leads to one row",
    ),
    "an edge to nothing": (
        with_column({"column": "name", "path": [TO_CUSTOMER | {"target": "crm.customer"}]}),
        r"v\.x: an edge: there is no entity 'crm\.customer'",
    ),
    "an edge from elsewhere": (
        with_column({"column": "name", "path": [TO_CUSTOMER | {"source": "model.line"}]}),
        r"v\.x: an edge starts at 'model\.line'",
    ),
    "an edge of other types": (
        with_column({"column": "name", "path": [TO_CUSTOMER | {"source_columns": ["order_id"]}]}),
        r"v\.x: .*is int but .* is text",
    ),
    "an edge to no key": (
        with_column({"column": "note", "path": [TO_CUSTOMER | {"target_columns": ["name"]}]}),
        r"v\.x: .*is not the whole key of model\.customer",
    ),
    "a cycle": (
        with_column({"rollup": "count", "path": [TO_CUSTOMER, TO_ORDERS, TO_CUSTOMER, TO_ORDERS]}),
        "v: a cycle",
    ),
    "a sum of text": (
        with_column({"rollup": "sum", "path": [TO_CUSTOMER, TO_ORDERS], "argument": {"column": "note"}}),
        r"v\.x: sum takes numbers, not text",
    ),
    "a sum of floats": (
        with_column({"rollup": "sum", "path": [TO_CUSTOMER, TO_ORDERS], "argument": {"column": "weight"}}),
        r"v\.x: A sum of floats",
    ),
    "a sum of nothing": (sum_of(None), r"v\.x: sum needs an argument"),
    "a sum in order": (sum_of({"column": "price"}, by=[{"column": "price"}]), r"v\.x: sum takes no by"),
    "a condition that is none": (
        sum_of({"column": "price"}, where={"column": "price"}),
        r"v\.x: a condition is true",
    ),
    "a list too long": (
        with_column({"rollup": "list", "path": [TO_LINES], "argument": {"column": "price"}, "limit": 9999}),
        r"v\.x: A list of 9999",
    ),
    "an unknown roll-up": (
        with_column({"rollup": "avg", "path": [TO_LINES]}),
        r"v\.x: 'avg' is none of count",
    ),
    "an unknown operator": (
        with_column({"op": "/", "left": {"value": 1}, "right": {"value": 1}}),
        r"v\.x: '/' is none of",
    ),
    "arithmetic with text": (
        with_column({"op": "+", "left": {"column": "order_id"}, "right": {"column": "note"}}),
        r"v\.x: .*is text; arithmetic",
    ),
    "a comparison with null": (
        with_column({"op": "=", "left": {"column": "note"}, "right": {"value": None}}),
        r"v\.x: nothing is = null",
    ),
    "a time that is none": (
        with_column({"op": ">", "left": {"column": "placed_at"}, "right": {"value": "yesterday"}}),
        r"v\.x: model\.order\.placed_at is timestamptz",
    ),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_in_one_sentence(data: Any, said: str) -> None:
    with pytest.raises(DeclarationError, match=said) as refusal:
        MODEL.view_of(data)
    assert str(refusal.value).count("v.x") <= 1


def test_no_shape_of_json_breaks_the_reader() -> None:
    document = EVERYTHING.model.to_document()
    for broken in mutations(document, lambda: [None, 7, "x", [], {}, [[]], {"value": 1}, True]):
        with suppress(DeclarationError):
            MODEL.view_of(broken)


def mutations(document: Any, replacements: Callable[[], list[Any]]) -> list[Any]:
    """The document with each of its parts replaced by each of these."""
    found: list[Any] = replacements()
    if isinstance(document, dict):
        for name, part in document.items():
            found += [document | {name: other} for other in mutations(part, replacements)]
    elif isinstance(document, list):
        for n, part in enumerate(document):
            found += [[*document[:n], other, *document[n + 1 :]] for other in mutations(part, replacements)]
    return found
