"""Whatever filter, order and selection is written gives the rows that a naive evaluation in Python gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_core.read import Database, Paging, list_rows
from tests.read import naive
from tests.read.declarations import deploy_by_hand, insert, order
from tests.read.naive import By, Check, Group, Place
from tests.support.services import Services, fresh_database

KEY = b"a key for cursors"
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "a%b",
    "a_b",
    "a*b",
    'q"uote',
    "b\\s",
    "(p), c",
    "ä",
    "Ä",
    "null",
    "not.eq.x",
    "é,",
]
VALUES: dict[str, list[Any]] = {
    "order_id": [0, 1, 2, 7, 11, 2**63 - 1],
    "customer": TEXTS,
    "total": [Decimal("0.0000"), Decimal("1.5000"), Decimal("12.5000"), Decimal("-3.2500")],
    "weight": [0.0, 0.25, -1.5, 1e300],
    "express": [True, False],
    "placed_at": [datetime(2026, 1, day, 12, 0, 0, 5, UTC) for day in (1, 2, 3)],
    "due": [date(2026, 1, day) for day in (1, 2, 3)],
    "reference": [UUID(int=7), UUID(int=2**127), UUID(int=8)],
    "extra": [
        {},
        {"a": 1, "b": "x", "c": None, "d": [1, "x", None], "e f": {"g": True}},
        {"a": 1.0, "b": "y", "d": [{"n": "x"}, {"n": 2}], "e f": {"g": False}},
        {"a": "1", "b": None, "d": [], "e f": {}},
        {"a": True, "d": [[1], [2, "x"]]},
    ],
    "shipment_count": [0, 1, 2],
}
OPTIONAL = ("weight", "due", "reference", "extra")
PATHS = [
    ("a",),
    ("b",),
    ("c",),
    ("d",),
    ("d", "0"),
    ("d", "-1"),
    ("d", "0", "n"),
    ("e f", "g"),
    ("nowhere", "at all"),
]
JSONS = [
    1,
    "1",
    "x",
    True,
    None,
    [],
    [1],
    ["x", 1],
    {"n": "x"},
    {"a": 1},
    {"d": [{"n": 2}]},
    {},
    [{"n": "x"}],
    2.5,
]


def rows() -> list[dict[str, Any]]:
    """Sixty rows that share their values, so that most comparisons are met by some and not by others."""
    made = []
    for number in range(60):
        row = {
            name: values[(number * (3 + place) + number // 7) % len(values)]
            for place, (name, values) in enumerate(VALUES.items())
        }
        for place, name in enumerate(OPTIONAL):
            if (number + place) % 4 == 0:
                row[name] = None
        made.append(order(number, **{name: value for name, value in row.items() if name != "order_id"}))
    return made


ROWS = rows()


class Reader:
    """A reader of the rows, on one connection."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        self.runner = runner
        self.database = Database(url, pool_size=2, statement_timeout_seconds=20)
        runner.run(self.database.open())

    def page(self, parameters: Sequence[tuple[str, str]], limit: int = 1000) -> Any:
        return self.runner.run(
            list_rows(self.database.as_itself, "orders", parameters, Paging(limit, 1000, KEY))
        )

    def rows(self, *parameters: tuple[str, str]) -> list[Any]:
        return _exact(self.page(parameters).body)


@pytest.fixture(scope="module")
def reader(services: Services) -> Iterator[Reader]:
    with fresh_database(services.database_url) as url, asyncio.Runner() as runner:
        deploy_by_hand(url)
        insert(url, "orders__1", *ROWS)
        made = Reader(runner, url)
        yield made
        runner.run(made.database.close())


places = st.one_of(
    st.sampled_from(list(VALUES)).map(Place),
    st.builds(Place, st.just("extra"), st.sampled_from(PATHS), st.booleans()),
)
directions, nulls = st.sampled_from(["", "asc", "desc"]), st.sampled_from(["", "nullsfirst", "nullslast"])


@st.composite
def checks(draw: st.DrawFn) -> Check:
    place = draw(places)
    kind = "text" if place.as_text else "json" if place.column == "extra" else place.column
    operators = ["eq", "neq", "isdistinct", "is"]
    if kind == "json":
        operators += ["cs"]
        values = JSONS
    else:
        operators += ["gt", "gte", "lt", "lte", "in"]
        values = [*TEXTS, "1", "true", "x"] if kind == "text" else VALUES[place.column]
    if kind in ("text", "customer"):
        operators += ["like", "ilike"]
    operator = draw(st.sampled_from(operators))
    negated = draw(st.booleans())
    if operator == "is":
        keywords = ["null", "not_null", *(["true", "false", "unknown"] if kind == "express" else [])]
        keyword = draw(st.sampled_from(keywords))
        value = {"true": True, "false": False}.get(keyword, keyword)
        return Check(place, operator, value, draw(st.sampled_from([keyword, keyword.upper()])), negated)
    if operator == "in":
        chosen = draw(st.lists(st.sampled_from(values), max_size=4))
        return Check(place, operator, chosen, json.dumps([wire(each) for each in chosen]), negated)
    if operator in ("like", "ilike"):
        pattern = draw(st.text(alphabet="aAbä%_*", max_size=4))
        return Check(place, operator, pattern, pattern, negated)
    value = draw(st.sampled_from(values))
    return Check(place, operator, value, json.dumps(value) if kind == "json" else wire(value), negated)


def wire(value: Any) -> str:
    """How a client spells a value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime | date) else str(value)


conditions = st.recursive(
    checks(),
    lambda inner: st.builds(
        Group,
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.booleans(),
    ),
    max_leaves=6,
)
orders = st.lists(
    st.builds(By, places.filter(lambda place: place.as_text or place.column != "extra"), directions, nulls),
    max_size=3,
    unique_by=lambda by: (by.place.column, by.place.path),
).filter(lambda parts: all(by.place.column != "order_id" for by in parts[:-1]))


@settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(asked=st.lists(conditions, max_size=3), by=orders, limit=st.integers(1, 25))
def test_filters_and_orders_give_what_python_gives(
    reader: Reader, asked: list[Check | Group], by: list[By], limit: int
) -> None:
    parameters = [part.parameter() for part in asked]
    if by:
        parameters.append(("order", ",".join(part.text for part in by)))
    held = [row for row in ROWS if all(part.holds(row) for part in asked)]
    expected = [row["order_id"] for row in naive.ordered(held, by, "order_id")]

    page = reader.page([*parameters, ("count", "exact")], limit)
    assert page.count == len(expected)
    pages = [_ids(page)]
    while page.next is not None:
        page = reader.page([*parameters, ("cursor", page.next)], limit)
        pages.append(_ids(page))
    assert [number for each in pages for number in each] == expected
    for before in reversed(pages[:-1]):
        assert page.prev is not None
        page = reader.page([*parameters, ("cursor", page.prev)], limit)
        assert _ids(page) == before
    assert page.prev is None
    assert page.first


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(chosen=st.lists(places, min_size=1, max_size=5))
def test_selections_give_what_python_gives(reader: Reader, chosen: list[Place]) -> None:
    select = ",".join(f"c{n}:{place.text}" for n, place in enumerate(chosen))
    expected = [{f"c{n}": naive.as_json(place.value(row)) for n, place in enumerate(chosen)} for row in ROWS]
    assert reader.rows(("select", select)) == _exact(json.dumps(expected, default=float))


def _ids(page: Any) -> list[int]:
    return [row["order_id"] for row in json.loads(page.body)]


def _exact(body: str) -> Any:
    return json.loads(body, parse_float=lambda text: Decimal(text).normalize())
