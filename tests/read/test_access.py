"""What a subject may see is what its grants say, and nothing tells of the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import hypothesis
import psycopg
import pytest
from hypothesis import strategies as st

from mesh_core.model.errors import DeclarationError
from mesh_core.model.grants import (
    RELATIONS,
    TIMELINE,
    WORKFLOWS,
    Grant,
    GrantModel,
    Where,
    claim,
    column,
    grant,
    publishing,
    rules_from_data,
)
from mesh_core.read import (
    Asked,
    Database,
    Paging,
    answer_several,
    errors,
    list_rows,
    one_row,
    relations,
    stream_rows,
    timeline,
    views,
    workflow,
    workflows_of,
)
from mesh_core.read.grants import Grants
from mesh_core.read.subject import ADMIN, Subject
from mesh_core.read.waiting import NOTHING
from mesh_core.store.grants import declare
from mesh_core.store.versions import raise_generation
from tests.read.declarations import (
    Order,
    Shipment,
    catalog,
    deploy_by_hand,
    insert,
    lines,
    order,
    orders,
    shipment_orders,
)
from tests.support.services import Services, fresh_database

PAGING = Paging(1000, 1000, b"a key")
ROWS = [
    order(
        number,
        customer=("ALFKI", "QUICK", "Ernst, H.", "%")[number % 4],
        express=number % 3 == 0,
        weight=None if number % 5 == 0 else number / 2,
        shipment_count=number % 2,
    )
    for number in range(1, 17)
]
COLUMNS = [each.name for each in orders.model.columns]
SHIPMENTS = [
    {"shipment_id": UUID(int=number), "customer": ROWS[number - 1]["customer"], "lines_together": 0}
    for number in range(1, 9)
]


class Seen:
    """Reads of one subject, on the rows above."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        self.runner, self.url = runner, url
        self.database = Database(url, pool_size=2, statement_timeout_seconds=20)
        runner.run(self.database.open())

    def granting(self, *grants: Grant) -> None:
        with psycopg.connect(self.url) as connection:
            declare(connection, [each.model for each in grants])
            raise_generation(connection)

    def run(self, subject: Subject, read: Any, *arguments: Any, **options: Any) -> Any:
        return self.runner.run(read(self.database.as_seen_by(subject), *arguments, **options))

    def rows(self, subject: Subject, view: str = "orders", **parameters: str) -> list[Any]:
        found: list[Any] = json.loads(
            self.run(subject, list_rows, view, list(parameters.items()), PAGING).body
        )
        return found


@pytest.fixture(scope="module")
def seen(services: Services) -> Iterator[Seen]:
    with fresh_database(services.database_url) as url, asyncio.Runner() as runner:
        deploy_by_hand(url)
        insert(url, "orders__1", *ROWS)
        insert(url, "shipment_orders__1", *SHIPMENTS)
        insert(
            url,
            "sales_order__1",
            *(
                {name: row[name] for name in row if name != "shipment_count"} | {"_partition": 0}
                for row in ROWS
            ),
        )
        one = Seen(runner, url)
        yield one
        runner.run(one.database.close())


def who(*roles: str, **claims: Any) -> Subject:
    return Subject("somebody", tuple(sorted(roles)), claims)


def test_nobody_sees_what_is_granted_to_none_of_their_roles(seen: Seen) -> None:
    seen.granting(grant(lines, "clerk"))
    for subject in (who(), who("stranger"), who("clerk")):
        with pytest.raises(errors.ViewNotFound) as found:
            seen.rows(subject)
        with pytest.raises(errors.ViewNotFound) as unknown:
            seen.rows(subject, "nowhere")
        assert str(found.value) == str(unknown.value).replace("nowhere", "orders")
        for resource, read, arguments in (
            ("relations", relations, ()),
            ("timeline", timeline, ({}, PAGING)),
            ("workflows", workflow, (str(UUID(int=1)),)),
            ("workflows", workflows_of, ("sales", "order", "1", PAGING)),
        ):
            with pytest.raises(errors.Forbidden, match=resource):
                seen.run(subject, read, *arguments)
    assert [view["name"] for view in seen.run(who("clerk"), views).document] == ["lines"]
    assert seen.run(who(), views).document == []
    assert len(seen.rows(who(ADMIN))) == len(ROWS)


def test_columns_that_are_not_granted_do_not_exist(seen: Seen) -> None:
    seen.granting(grant(orders, "clerk", columns=["customer"]))
    subject = who("clerk")
    assert seen.rows(subject)[0] == {"order_id": 1, "customer": "QUICK"}
    assert json.loads(seen.run(subject, one_row, "orders", "1").body) == {"order_id": 1, "customer": "QUICK"}
    for parameters in (
        {"total": "gt.1"},
        {"order": "total"},
        {"select": "total"},
        {"or": "(total.gt.1,order_id.eq.1)"},
    ):
        with pytest.raises(errors.UnknownParameter) as found:
            seen.rows(subject, **parameters)
        remedy = found.value.remedy or ""
        assert "customer" in remedy
        assert not any(name in remedy for name in set(COLUMNS) - {"order_id", "customer"})
    (view,) = seen.run(subject, views).document
    assert [each["name"] for each in view["columns"]] == ["order_id", "customer"]


def test_rows_of_others_are_not_there(seen: Seen) -> None:
    seen.granting(grant(orders, "customer", where=claim("org.customer") == column("customer")))
    mine = who("customer", org={"customer": "ALFKI"})
    ids = [row["order_id"] for row in ROWS if row["customer"] == "ALFKI"]
    assert [row["order_id"] for row in seen.rows(mine)] == ids
    with pytest.raises(errors.RowNotFound) as others:
        seen.run(mine, one_row, "orders", "1")
    with pytest.raises(errors.RowNotFound) as nobodys:
        seen.run(mine, one_row, "orders", "999")
    assert str(others.value) == str(nobodys.value).replace("'999'", "'1'")
    for count in ("exact", "planned", "estimated"):
        page = seen.run(mine, list_rows, "orders", [("count", count), ("limit", "1")], PAGING)
        assert page.count == len(ids)
    assert seen.rows(who("customer")) == []
    for value in (
        {"customer": ["ALFKI"]},
        {"customer": 7},
        "ALFKI",
        {"customer": None},
        {"customer": "ALFKI\0"},
    ):
        assert seen.rows(who("customer", org=value)) == []

    async def lines_of(reader: Any) -> list[str]:
        async with stream_rows(reader, "orders", [], PAGING, NOTHING, as_json=True) as stream:
            return [row[0] async for chunk in stream.chunks for row in chunk]

    assert [json.loads(text)["order_id"] for text in seen.run(mine, lines_of)] == ids
    asked = [
        Asked("orders", {"order_id": "eq.1"}),
        Asked("orders", {}, "1"),
        Asked("orders", {}, str(ids[0])),
    ]
    several = json.loads(seen.run(mine, answer_several, asked, PAGING, NOTHING).body)["results"]
    assert (several[0]["rows"], several[1]["row"], several[2]["row"]["order_id"]) == ([], None, ids[0])


def test_a_cursor_of_somebody_else_leads_to_ones_own_rows(seen: Seen) -> None:
    seen.granting(grant(orders, "customer", where=claim("customer") == column("customer")))
    page = seen.run(who(ADMIN), list_rows, "orders", [("limit", "2")], PAGING)
    assert [row["order_id"] for row in seen.rows(who("customer", customer="ALFKI"), cursor=page.next)] == [
        4,
        8,
        12,
        16,
    ]


def test_a_change_of_grants_is_seen_by_the_next_read(seen: Seen) -> None:
    seen.granting(grant(orders, "clerk"))
    assert seen.rows(who("clerk"))
    seen.granting()
    with pytest.raises(errors.ViewNotFound):
        seen.rows(who("clerk"))


# ---- what is joined


def test_a_join_does_not_show_more_of_a_guarded_entity(seen: Seen) -> None:
    shown = grant(shipment_orders, "clerk")
    seen.granting(shown)
    assert seen.rows(who("clerk"), "shipment_orders")[0]["customer"] == "QUICK"
    seen.granting(shown, grant(Order, "sales"))
    assert "customer" not in seen.rows(who("clerk"), "shipment_orders")[0]
    assert seen.rows(who("clerk", "sales"), "shipment_orders")[0]["customer"] == "QUICK"
    seen.granting(shown, grant(Order, "sales", columns=["total"]))
    assert "customer" not in seen.rows(who("clerk", "sales"), "shipment_orders")[0]


def test_the_rule_of_an_entity_holds_for_what_is_joined_from_it(seen: Seen) -> None:
    own = grant(Order, "sales", where=claim("customer") == column("customer"))
    seen.granting(grant(shipment_orders, "clerk"), grant(orders, "clerk"), own)
    subject = who("clerk", "sales", customer="ALFKI")
    found = [row["customer"] for row in seen.rows(subject, "shipment_orders")]
    assert found == ["ALFKI" if row["customer"] == "ALFKI" else None for row in SHIPMENTS]
    assert len(seen.rows(subject, "shipment_orders", customer="is.null")) == found.count(None)
    # In a view of the entity itself whoever may not see a row does not learn that it is there.
    assert {row["customer"] for row in seen.rows(subject)} == {"ALFKI"}
    # The rule cannot be told in a view without what it compares.
    other = grant(Order, "sales", where=column("express") == True)  # noqa: E712  # it builds a condition
    seen.granting(grant(shipment_orders, "clerk"), other)
    assert "customer" not in seen.rows(subject, "shipment_orders")[0]


def test_many_rows_that_are_not_all_seen_are_not_rolled_up(seen: Seen) -> None:
    seen.granting(grant(orders, "clerk"), grant(Shipment, "clerk", where=column("order_id") == 1))
    assert "shipment_count" not in seen.rows(who("clerk"))[0]
    seen.granting(grant(orders, "clerk"), grant(Shipment, "clerk", columns=["order_id"]))
    assert "shipment_count" in seen.rows(who("clerk"))[0]


# ---- workflows and the timeline

FLOW, HIDDEN, EMPTY = (UUID(int=number) for number in (101, 102, 103))


@pytest.fixture(scope="module")
def flows(seen: Seen) -> Seen:
    now = "1996-07-04T00:00:00Z"
    entries = [
        (FLOW, "order", "4"),
        (FLOW, "order", "1"),
        (FLOW, "line", "a%2Cb,x%2Fy"),
        (FLOW, "line", "c,d"),
        (FLOW, "line", "%FF,x"),
        (FLOW, "order", "seven"),
        (HIDDEN, "order", "1"),
    ]
    insert(
        seen.url,
        "mesh_workflow__1",
        *(
            {"workflow_id": each, "created_at": now, "created_by": "/x", "_partition": 0}
            for each in (FLOW, HIDDEN, EMPTY)
        ),
    )
    insert(
        seen.url,
        "mesh_workflow_entry__1",
        *(
            {
                "workflow_id": flow,
                "service": "sales",
                "entity": entity,
                "key": key,
                "origin": "t",
                "registered_at": now,
                "_partition": 0,
            }
            for flow, entity, key in entries
        ),
    )
    with psycopg.connect(seen.url) as connection:
        for offset, (flow, entity, key) in enumerate(entries):
            connection.execute(
                'INSERT INTO mesh.event_index (topic, partition, "offset", type, service, entity, key, workflow_id, time) '
                "VALUES ('sales.events', 0, %s, 'sales.x.y.v1', 'sales', %s, %s, %s, now())",
                (offset, entity, key, flow),
            )
    return seen


LOOKING = (WORKFLOWS, TIMELINE)


def entries(seen: Seen, subject: Subject) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The entries of FLOW, and those that its timeline tells of."""
    found = json.loads(seen.run(subject, workflow, str(FLOW)).body)["entries"]
    events = json.loads(seen.run(subject, timeline, {"workflow": str(FLOW)}, PAGING).body)
    return (
        {(each["entity"], each["key"]) for each in found},
        {(each["entity"], each["subject"]) for each in events},
    )


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ([grant(Order, "clerk")], {("order", "4"), ("order", "1"), ("order", "seven")}),
        ([grant(orders, "clerk", columns=[])], {("order", "4"), ("order", "1"), ("order", "seven")}),
        ([grant(Order, "clerk", where=column("customer") == "ALFKI")], {("order", "4")}),
        ([grant(orders, "clerk", where=column("customer") == "QUICK")], {("order", "1")}),
        ([grant(lines, "clerk", where=column("product") == "x/y")], set()),
        ([grant(lines, "clerk")], {("line", "a%2Cb,x%2Fy"), ("line", "c,d"), ("line", "%FF,x")}),
    ],
)  # fmt: skip
def test_entries_and_events_of_what_may_be_seen(
    flows: Seen, granted: list[Grant], expected: set[tuple[str, str]]
) -> None:
    flows.granting(*granted, *(grant(each, "clerk") for each in LOOKING))
    if not expected:
        with pytest.raises(errors.WorkflowNotFound):
            entries(flows, who("clerk"))
        return
    assert entries(flows, who("clerk")) == (expected, expected)


def test_a_composite_key_is_found_however_it_was_written(flows: Seen) -> None:
    insert(flows.url, "lines__1", {"order_code": "a,b", "product": "x/y", "quantity": 1})
    flows.granting(
        grant(lines, "clerk", where=column("product") == "x/y"), *(grant(each, "clerk") for each in LOOKING)
    )
    assert entries(flows, who("clerk"))[0] == {("line", "a%2Cb,x%2Fy")}


def test_a_workflow_of_others_entries_is_as_if_it_were_not(flows: Seen) -> None:
    flows.granting(
        grant(orders, "clerk", where=column("customer") == "ALFKI"),
        *(grant(each, "clerk") for each in LOOKING),
    )
    for unseen in (HIDDEN, UUID(int=999)):
        with pytest.raises(errors.WorkflowNotFound):
            flows.run(who("clerk"), workflow, str(unseen))
    assert json.loads(flows.run(who("clerk"), workflow, str(EMPTY)).body)["entries"] == []
    expanded = json.loads(flows.run(who("clerk"), workflow, str(FLOW), expand=True).body)["entries"]
    assert [(each["key"], each["row"], each["views"]["orders"]["customer"]) for each in expanded] == [
        ("4", None, "ALFKI")
    ]

    def found(key: str) -> int:
        return len(json.loads(flows.run(who("clerk"), workflows_of, "sales", "order", key, PAGING).body))

    assert (found("4"), found("1"), found("999")) == (1, 0, 0)


def test_relations_are_of_the_entities_that_may_be_seen(seen: Seen) -> None:
    seen.granting(grant(RELATIONS, "clerk"), grant(Order, "clerk", columns=["total"]), grant(orders, "clerk"))
    found = seen.run(who("clerk"), relations).document
    assert [(each["name"], [name["name"] for name in each["columns"]]) for each in found["entities"]] == [
        ("sales.order", ["order_id", "total"])
    ]
    assert found["edges"] == []


# ---- any grants, any query

CONDITIONS: list[tuple[Where | None, Any]] = [
    (None, lambda row, claims: True),
    (claim("customer") == column("customer"), lambda row, claims: row["customer"] == claims.get("customer")),
    (
        column("customer").in_(claim("customers")),
        lambda row, claims: row["customer"] in claims.get("customers", ()),
    ),
    (column("express") == True, lambda row, claims: row["express"]),  # noqa: E712  # it builds a condition
    (
        (column("shipment_count") == 1) & (claim("n") == column("order_id")),
        lambda row, claims: (row["shipment_count"], row["order_id"]) == (1, claims.get("n")),
    ),
]
made = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.none() | st.lists(st.sampled_from(["customer", "express", "weight", "shipment_count"]), unique=True),
    st.integers(0, len(CONDITIONS) - 1),
)
claimed = st.fixed_dictionaries(
    {},
    optional={
        "customer": st.sampled_from(["ALFKI", "%", "QUICK"]),
        "customers": st.lists(st.sampled_from(["ALFKI", "Ernst, H."])),
        "n": st.integers(1, 8),
    },
)


def expected(
    grants: Sequence[tuple[str, Any, int]], claims: Mapping[str, Any]
) -> tuple[set[str], list[dict[str, Any]]]:
    """The columns that there are, and the rows: by the rules, one by one."""
    names = {"order_id"} | {
        name for name in COLUMNS for _, columns, _ in grants if columns is None or name in columns
    }
    rows = []
    for row in ROWS:
        giving = [columns for _, columns, number in grants if CONDITIONS[number][1](row, claims)]
        if giving:
            shown = {name for name in names if any(columns is None or name in columns for columns in giving)}
            rows.append({name: row.get(name) if name in {"order_id", *shown} else None for name in names})
    return names, rows


@hypothesis.settings(
    max_examples=30, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    st.lists(made, min_size=1, max_size=4),
    st.sets(st.sampled_from(["a", "b"])),
    claimed,
    st.sampled_from(["customer", "express", "weight"]),
)
def test_any_grants_show_what_the_rules_say(
    seen: Seen, grants: list[tuple[str, Any, int]], roles: set[str], claims: dict[str, Any], asked: str
) -> None:
    seen.granting(
        *(
            grant(orders, role, columns=columns, where=CONDITIONS[number][0])
            for role, columns, number in grants
        )
    )
    held = [each for each in grants if each[0] in roles]
    subject = who(*roles, **claims)
    if not held:
        with pytest.raises(errors.ViewNotFound):
            seen.rows(subject)
        return
    names, rows = expected(held, claims)
    compared = sorted(names & {"order_id", "customer", "express", "weight", "shipment_count"})
    found = seen.rows(subject)
    assert all(row.keys() == names for row in found)
    assert [{name: row[name] for name in compared} for row in found] == [
        {name: row[name] for name in compared} for row in rows
    ]
    if asked in names:
        value = {"customer": "eq.ALFKI", "express": "is.true", "weight": "gt.2"}[asked]
        keeps = {
            "customer": lambda at: at == "ALFKI",
            "express": lambda at: at is True,
            "weight": lambda at: at is not None and at > 2,
        }[asked]
        ids = [row["order_id"] for row in rows if keeps(row[asked])]
        assert [row["order_id"] for row in seen.rows(subject, **{asked: value})] == ids
        backwards = seen.rows(subject, order=f"{asked}.desc.nullslast,order_id.desc")
        assert [row[asked] for row in backwards if row[asked] is None] == [None] * sum(
            row[asked] is None for row in rows
        )
        assert [row[asked] is None for row in backwards] == sorted(row[asked] is None for row in rows)


# ---- declarations


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: grant(orders, "admin"), "everything already"),
        (lambda: grant(orders, "a b"), "A role cannot be granted"),
        (lambda: grant(WORKFLOWS, "clerk", columns=["x"]), "no columns"),
        (lambda: claim("a") == 7, "compared with a column"),
        (lambda: bool(column("a") == 7), "no truth value"),
        (lambda: column("a") == 7.5, "compared with a claim"),
        (lambda: rules_from_data("view:orders", "clerk", [{"column": "x"}]), "has no meaning"),
        (lambda: rules_from_data("view:orders", "clerk", [{"where": [{"column": "x", "op": "eq"}]}]), "a claim or a value"),
        (lambda: rules_from_data("view:orders", "clerk", [{"where": [{"column": "x", "op": "gt", "value": 1}]}]), "no operator"),
        (lambda: rules_from_data("views:orders", "clerk", []), "no resource"),
        (lambda: rules_from_data("publish:Sales", "clerk", []), "lower-case"),
    ],
)  # fmt: skip
def test_what_cannot_be_granted_is_refused(make: Any, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        make()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (grant(orders, "clerk", columns=["nothing"]), "does not have"),
        (grant(orders, "clerk", where=claim("x") == column("extra")), "no claim equals"),
        (grant(orders, "clerk", where=column("customer") == 7), "is text"),
        (grant(orders, "clerk", where=column("express") == 1), "is bool"),
    ],
)
def test_a_catalog_refuses_a_grant_of_what_there_is_not(made: Grant, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        type(catalog).of(entities=[Order, Shipment], views=[orders], grants=[made])


def test_a_grant_is_plain_data() -> None:
    for each in (
        grant(
            orders,
            "clerk",
            columns=["total"],
            where=(claim("a") == column("customer")) & (column("order_id") == 1),
        ),
        grant(publishing("crm"), "crm-service"),
    ):
        told = json.loads(json.dumps(each.model.to_json()))
        assert GrantModel.from_json(told) == each.model
    assert rules_from_data(
        "view:orders", "clerk", [{"columns": ["a"], "where": [{"column": "b", "op": "in", "claim": "c"}]}]
    ) == (GrantModel("view:orders", "clerk", ("a",), column("b").in_(claim("c")).conditions),)


@pytest.mark.parametrize(
    "rules",
    [
        [{"where": [{}]}],
        [{"columns": 7}],
        [{"columns": "total"}],
        [{"were": [{"column": "customer", "op": "eq", "claim": "customer"}]}],
        [{"where": [{"column": "customer", "op": "like", "value": "%"}]}],
        [{}, {"where": 1}],
    ],
)
def test_what_is_said_centrally_and_cannot_be_read_gives_nothing(rules: list[Any]) -> None:
    """Not what is declared in its place either, and all else holds."""
    declared = [GrantModel(resource, "clerk").to_json() for resource in ("view:orders", "view:lines")]
    said = Grants.of(declared, [], [{"role": "clerk", "resource": "view:orders", "rules": rules}])
    assert said.held(["clerk"]).keys() == {"view:lines"}
