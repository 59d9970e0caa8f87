"""`mesh dead-letters`: seen, decided, carried out."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import Mesh
from tests.cli.domain import TOPIC, WORKFLOW, added, lines


@pytest.fixture
def letter(mesh: Mesh) -> str:
    """The address of a dead letter: item 1 with a wrong price."""
    mesh.deployed()
    wrong = added(1, "Wrong")
    wrong["data"]["price"] = "dear"
    mesh.send(TOPIC, b"1", json.dumps(wrong).encode())
    mesh.project()
    (found,) = mesh("dead-letters", "list", "--json").json
    assert (found["reason"], found["key"], found["parked"]) == ("wrong_value", "1", 0)
    return str(found["address"])


def names(mesh: Mesh) -> list[tuple[int, str]]:
    with psycopg.connect(mesh.surroundings.database_url) as connection:
        return connection.execute("SELECT item_id, name FROM read.shop_overview ORDER BY 1").fetchall()


def test_a_dead_letter_is_shown_whole(mesh: Mesh, letter: str) -> None:
    (row,) = mesh("dead-letters", "show", letter, "--json").json
    assert (row["status"], row["event_type"]) == ("dead", "shop.item.added.v1")
    assert json.loads(row["value"])["data"]["price"] == "dear"
    assert "price" in row["detail"]
    assert "dear" in mesh("dead-letters", "show", letter).out
    listed = mesh("dead-letters", "list").out
    assert letter in listed
    assert mesh("dead-letters", "list", "--topic", "mesh.events", "--json").json == []


def test_discarding_lets_the_key_go_on(mesh: Mesh, letter: str) -> None:
    with mesh.projecting():
        done = mesh("dead-letters", "discard", letter, "--wait")
    assert done.status == 0
    assert done.out.endswith(f"discard {letter}: done\n")
    assert mesh("dead-letters", "list", "--json").json == []
    assert mesh("dead-letters", "list").out == "There are no dead letters.\n"
    mesh.publish(lines(added(1)))
    mesh.project()
    assert names(mesh) == [(1, "Teapot")]


def test_editing_applies_another_event_in_its_place(mesh: Mesh, letter: str, tmp_path: Path) -> None:
    file = tmp_path / "corrected.json"
    file.write_text(json.dumps(added(1, "Corrected"), indent=2))
    with mesh.projecting():
        done = mesh("dead-letters", "edit", letter, "--value", str(file), "--wait")
    assert (done.status, done.err) == (0, "")
    assert names(mesh) == [(1, "Corrected")]
    assert mesh("check").status == 0


def test_an_edit_registers_its_workflow(mesh: Mesh, letter: str, tmp_path: Path) -> None:
    file = tmp_path / "corrected.json"
    file.write_text(json.dumps(added(1, "Corrected", workflowid=WORKFLOW)))
    with mesh.projecting():
        assert mesh("dead-letters", "edit", letter, "--value", str(file), "--wait").status == 0
    (entry,) = mesh("workflow", WORKFLOW, "--json").json["entries"]
    assert (entry["service"], entry["entity"], entry["key"]) == ("shop", "item", "1")


def test_an_edit_that_does_not_fit_is_refused_before_it_is_published(mesh: Mesh, letter: str) -> None:
    wrong = added(1)
    del wrong["data"]["name"]
    done = mesh("dead-letters", "edit", letter, "--value", "-", stdin=json.dumps(wrong))
    assert done.status == 2
    assert "missing_field" in done.err


def test_editing_in_an_editor(mesh: Mesh, letter: str, tmp_path: Path) -> None:
    mesh.monkeypatch.setenv("VISUAL", "false")
    failed = mesh("dead-letters", "edit", letter)
    assert failed.status == 2
    assert ".." not in failed.err
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/"dear"/9.5/\' "$1"\n')
    editor.chmod(0o755)
    mesh.monkeypatch.setenv("VISUAL", str(editor))
    with mesh.projecting():
        assert mesh("dead-letters", "edit", letter, "--wait").status == 0
    assert names(mesh) == [(1, "Wrong")]
    mesh.monkeypatch.setenv("VISUAL", "false")
    assert mesh("dead-letters", "edit", letter).status == 1  # it is no dead letter any more


def test_a_retry_that_is_refused_again_says_so(mesh: Mesh, letter: str) -> None:
    with mesh.projecting():
        done = mesh("dead-letters", "retry", letter, "--wait")
    assert done.status == 1
    assert "refused again: wrong_value" in done.out
    (found,) = mesh("dead-letters", "list", "--json").json
    assert found["attempts"] == 2


def test_wrong_addresses(mesh: Mesh, letter: str) -> None:
    assert mesh("dead-letters", "show", "nonsense").status == 2
    assert mesh("dead-letters", "show", f"{TOPIC}/0/999").status == 1
    assert mesh("dead-letters", "retry", f"{TOPIC}/0/999").status == 1


def test_nobody_carries_it_out(mesh: Mesh, letter: str) -> None:
    done = mesh("dead-letters", "retry", letter, "--wait", "--timeout", "0.5")
    assert done.status == 1
    assert "mesh status" in done.err
