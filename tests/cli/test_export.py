"""`mesh events export`: what it keeps and says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Mesh
from tests.cli.domain import TOPIC, added, lines, sold
from tests.support.mesh import wait_for


def test_it_keeps_all_that_feeds_what_is_declared_and_goes_on_where_it_ended(
    mesh: Mesh, tmp_path: Path
) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1), sold(1, 1, 2)))
    first = mesh("events", "export", "--to", str(tmp_path))
    assert first.status == 0, first.err
    assert [line.split()[:3] for line in first.out.splitlines() if line.startswith(TOPIC)] == [
        [TOPIC, "2", "1"]
    ]
    mesh.publish(lines(sold(2, 1, 5)))
    (again,) = mesh("events", "export", TOPIC, "--to", str(tmp_path), "--json").json
    assert (again["topic"], again["records"]) == (TOPIC, 1)
    assert sum(again["position"][TOPIC].values()) == 3

    right = mesh("events", "export", "--verify", str(tmp_path))
    assert right.status == 0
    changed = next(tmp_path.glob(f"{TOPIC}/partition=*/*.parquet"))
    changed.write_bytes(changed.read_bytes()[:-1])
    wrong = mesh("events", "export", "--verify", str(tmp_path), "--json")
    assert wrong.status == 1
    assert [len(each["wrong"]) for each in wrong.json if each["topic"] == TOPIC] == [1]


def test_a_selection_is_written_elsewhere(mesh: Mesh, tmp_path: Path) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1), sold(1, 1, 2)))
    chosen = mesh("events", "export", TOPIC, "--to", str(tmp_path), "--type", "shop.sale.*", "--json")
    assert [each["records"] for each in chosen.json] == [1]
    none = mesh("events", "export", TOPIC, "--to", str(tmp_path / "b"), "--until", "2001-01-01", "--json")
    assert [each["records"] for each in none.json] == [0]
    refused = mesh("events", "export", TOPIC, "--to", str(tmp_path))
    assert (refused.status, "A selection needs a folder of its own" in refused.err) == (1, True)


def test_services_name_their_topics_and_what_is_refused_of_one_stops_no_other(
    mesh: Mesh, tmp_path: Path
) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1), sold(1, 1, 2)))
    archive = tmp_path / "archive"
    assert mesh("events", "export", TOPIC.removesuffix(".events"), "--to", str(archive)).status == 0
    manifest = archive / TOPIC / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"topic_id": "', '"topic_id": "not-'))
    done = mesh("events", "export", "--to", str(archive), "--json")
    assert done.status == 1
    assert "is of another topic of that name" in done.err
    assert [each["topic"] for each in done.json] == ["mesh.events"]


def test_a_topic_that_was_never_made_is_passed_over_unless_it_is_named(mesh: Mesh, tmp_path: Path) -> None:
    assert mesh("migrate").status == 0
    with mesh.surroundings.driver.admin() as admin:
        for name in (TOPIC, "mesh.events"):
            admin.delete_topic(name)
        wait_for(lambda: not admin.describe([TOPIC, "mesh.events"]))
        none = mesh("events", "export", "--to", str(tmp_path))
        assert (none.status, "There is no topic" in none.err) == (2, True)
        admin.create_topic(TOPIC, 1)
    (done,) = mesh("events", "export", "--to", str(tmp_path), "--json").json
    assert done["topic"] == TOPIC


def test_whoever_has_no_arrow_is_told_what_to_install(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.deployed()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    without = mesh("events", "export", "--to", str(tmp_path / "archive"))
    assert (without.status, 'pip install "flexmesh[analysis]"' in without.err) == (2, True)
    assert not (tmp_path / "archive").exists()
    monkeypatch.setenv("MESH_ARCHIVE", str(tmp_path))
    assert 'pip install "flexmesh[analysis]"' in mesh("rebuild", "shop.product").err


def test_wrong_use_is_said(mesh: Mesh, tmp_path: Path) -> None:
    assert "--to DIR" in mesh("events", "export").err
    missing = mesh("events", "export", "nobody.events", "--to", str(tmp_path))
    assert (missing.status, "There is no topic nobody.events" in missing.err) == (2, True)
    assert mesh("events", "export", "--verify", str(tmp_path)).status == 2
    assert mesh("events", "export", "--to", str(tmp_path), "--from", "soon").status == 2
