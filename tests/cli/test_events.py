"""`mesh events`: what goes in comes out, and what does not fit is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Mesh
from tests.cli.domain import TOPIC, WORKFLOW, added, lines, sold


def test_what_is_published_can_be_tailed_and_published_again(mesh: Mesh, tmp_path: Path) -> None:
    mesh.deployed()
    file = tmp_path / "events.jsonl"
    file.write_text(lines(added(1), added(2, "Cup", workflowid=WORKFLOW), sold(1, 1)) + "\n")

    done = mesh("events", "publish", str(file), "--json")
    assert done.status == 0, done.err
    assert done.json["published"] == 3
    assert sum(done.json["position"][TOPIC].values()) == 3

    tailed = mesh("events", "tail", "--no-follow")
    events = [json.loads(line) for line in tailed.out.splitlines()]
    assert sorted(event["id"] for event in events) == sorted(
        e["id"] for e in (added(1), added(2), sold(1, 1))
    )
    assert '"price":24.5' in tailed.out

    again = mesh("events", "publish", "-", stdin=tailed.out)
    assert (again.status, again.out.split(";")[0]) == (0, "Published 3 events")


def test_tail_filters_and_stops(mesh: Mesh) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1), added(2, workflowid=WORKFLOW), sold(1, 1), sold(2, 1)))

    def ids(*filters: str) -> list[str]:
        done = mesh("events", "tail", "--from-beginning", "--no-follow", *filters)
        assert done.status == 0, done.err
        return sorted(json.loads(line)["id"] for line in done.out.splitlines())

    assert ids("--type", "shop.sale.*") == ["shop.sale.made.v1-1", "shop.sale.made.v1-2"]
    assert ids("--workflow", WORKFLOW) == ["shop.item.added.v1-2"]
    assert len(ids("--count", "3")) == 3
    assert ids("--service", "mesh") == []
    assert mesh("events", "tail", "--service", "elsewhere").status == 2


def test_a_file_with_a_wrong_line_is_not_published_at_all(mesh: Mesh, tmp_path: Path) -> None:
    mesh.deployed()
    file = tmp_path / "events.jsonl"
    wrong = added(2)
    wrong["data"]["price"] = "dear"
    file.write_text(lines(added(1), wrong))
    done = mesh("events", "publish", str(file))
    assert (done.status, done.out) == (2, "")
    assert "Line 2: shop.item.added.v1" in done.err
    assert "price" in done.err
    assert mesh("events", "tail", "--from-beginning", "--no-follow").out == ""


def test_of_standard_input_what_came_before_a_wrong_line_is_published(mesh: Mesh) -> None:
    mesh.deployed()
    for text, told in (
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        (json.dumps({**added(2), "specversion": "0.3"}), "specversion"),
        (json.dumps({**added(2), "time": "2026-01-01T09:00:00"}), "no zone"),
        (json.dumps({**added(2), "subject": ""}), "subject"),
    ):
        done = mesh("events", "publish", "-", stdin=lines(added(1)) + text + "\n")
        assert done.status == 2
        assert "Line 2: " in done.err
        assert told in done.err
        assert "Published before it: 1." in done.err


def test_a_type_without_contract_is_published_with_a_warning(mesh: Mesh) -> None:
    mesh.deployed()
    done = mesh("events", "publish", "-", stdin=lines(added(1, type="shop.item.admired.v1")))
    assert done.status == 0
    assert "no contract describes shop.item.admired.v1 (1 published)" in done.err


def test_a_record_that_is_no_event_does_not_stop_the_tail(mesh: Mesh) -> None:
    mesh.deployed()
    mesh.send(TOPIC, b"1", b"not json")
    mesh.publish(lines(added(1)))
    done = mesh("events", "tail", "--from-beginning", "--no-follow")
    assert len(done.out.splitlines()) == 1
    assert "not a CloudEvent" in done.err


def test_a_file_that_is_not_there(mesh: Mesh) -> None:
    done = mesh("events", "publish", "/no/such/file")
    assert (done.status, done.err) == (2, "mesh: /no/such/file cannot be read: No such file or directory.\n")
