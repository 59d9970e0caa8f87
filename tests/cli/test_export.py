"""`mesh events export`: what it keeps and says."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Mesh
from tests.cli.domain import TOPIC, added, lines, sold


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


def test_wrong_use_is_said(mesh: Mesh, tmp_path: Path) -> None:
    assert "--to DIR" in mesh("events", "export").err
    missing = mesh("events", "export", "nobody.events", "--to", str(tmp_path))
    assert (missing.status, "There is no topic nobody.events" in missing.err) == (2, True)
    assert mesh("events", "export", "--verify", str(tmp_path)).status == 2
    assert mesh("events", "export", "--to", str(tmp_path), "--from", "soon").status == 2
