"""`mesh history`: how a row came to be, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Mesh
from tests.cli.domain import TOPIC, WORKFLOW, added, lines, sold


@pytest.fixture
def sales(mesh: Mesh) -> Mesh:
    """Item 1 was added, sold, and renamed by an edit in a dead letter's place."""
    mesh.deployed()
    mesh.publish(lines(added(1, workflowid=WORKFLOW), sold(5, 1, 2, time="2026-01-01T10:00:00Z")))
    wrong = added(1, "Wrong")
    wrong["data"]["price"] = "dear"
    mesh.send(TOPIC, b"1", json.dumps(wrong).encode())
    mesh.project()
    return mesh


def test_it_tells_what_each_event_changed(sales: Mesh) -> None:
    done = sales("history", "shop_overview", "1")
    assert done.status == 0
    title, *told = done.out.splitlines()
    assert title == "shop_overview 1: 2 events, as version 1 tells"
    events = [line for line in told if line[:2] == "20"]
    assert [line.split()[2:4] for line in events] == [
        ["shop", "shop.item.added.v1"],
        ["shop", "shop.sale.made.v1"],
    ]
    assert [line.split()[-1] for line in events] == ["created", "changed"]
    assert any(line.split() == ["name", "-", "→", "Teapot"] for line in told)


def test_as_json_it_has_every_position(sales: Mesh) -> None:
    found = sales("history", "shop_overview", "1", "--json").json
    assert (found["view"], found["version"]) == ("shop_overview", 1)
    assert list(found["position"]) == [TOPIC]
    first, second = found["steps"]
    assert (first["service"], first["subject"], first["topic"], first["change"]) == (
        "shop",
        "1",
        TOPIC,
        "created",
    )
    assert first["columns"]["name"] == {"before": None, "after": "Teapot"}
    assert set(second["columns"]) <= set(first["columns"])


def test_a_decision_is_named_with_what_it_had_applied(sales: Mesh) -> None:
    (letter,) = sales("dead-letters", "list", "--json").json
    edit = json.dumps(added(1, "Kettle"))
    with sales.projecting():
        assert (
            sales("dead-letters", "edit", letter["address"], "--value", "-", "--wait", stdin=edit).status == 0
        )
    out = sales("history", "shop_overview", "1").out
    assert "mesh.dead_letter.decided.v1" in out
    assert f"  applies {letter['address']}" in out
    assert "Teapot → Kettle" in out


def test_a_row_that_never_was_is_told(sales: Mesh) -> None:
    done = sales("history", "shop_overview", "7")
    assert (done.status, done.out) == (1, "")
    assert "shop_overview has never had a row with the key '7'" in done.err


def test_wrong_names_and_keys_are_told(sales: Mesh) -> None:
    unknown = sales("history", "shop_overvew", "1")
    assert unknown.status == 2
    assert "Did you mean shop_overview?" in unknown.err
    wrong = sales("history", "shop_overview", "one")
    assert wrong.status == 2
    assert "item_id" in wrong.err


def test_the_workflow_of_an_event_is_named(sales: Mesh) -> None:
    assert f"in workflow {WORKFLOW}" in sales("history", "shop_overview", "1").out
