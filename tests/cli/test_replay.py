"""`mesh replay`: what it prints, and what it refuses before it begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Mesh
from tests.cli.domain import added, lines, sold


@pytest.fixture
def shop(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    """A shop with a product that was sold once; this process stays as important as it is."""
    monkeypatch.setattr(os, "nice", lambda by: by)
    mesh.deployed()
    mesh.publish(lines(added(1), sold(1, 1, 2)))
    mesh.project()
    return mesh


def test_it_says_how_many_rows_of_how_many_events_went_where_and_as_of_what(
    shop: Mesh, tmp_path: Path
) -> None:
    target = tmp_path / "shop.csv"
    done = shop("replay", "shop_overview", "--to", str(target), "--diff")
    assert done.status == 0, done.err
    assert f"shop_overview: 1 rows of 2 events into {target}, in " in done.out
    assert 'as of {"' in done.out
    assert [line.split() for line in done.out.splitlines()][-1] == ["1", "0", "0", "0"]
    assert "replaying shop_overview from " in done.err
    assert len(target.read_text(encoding="utf-8").splitlines()) == 2

    shop.publish(lines(sold(2, 1, 5)))
    shop.project()
    position = done.out.partition("as of ")[2].partition("\n")[0]
    before = shop("replay", "shop_overview", "--as-of", position, "--diff")
    assert "added  removed  changed" in before.out
    assert "such as  change   column" in before.out
    facts = shop("replay", "shop_overview", "--as-of", position, "--diff", "--json").json
    assert (facts["rows"], facts["events"], facts["file"], facts["resumed"]) == (1, 2, None, False)
    assert facts["difference"]["changed"] == 1
    assert facts["difference"]["samples"][0]["key"] == ["1"]

    mine = shop("replay", "shop_overview", "--schema", "mine", "--json").json
    assert mine["table"] == "mine.shop_overview"
    shop("replay", "shop_overview", "--as-of", "2001-01-01", "--only", "key=1", "--schema", "mine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Nobody would see what is replayed"),
        (["--to", "nowhere/x.csv"], "There is no folder nowhere"),
        (["--to", "x.xlsx"], "has no ending"),
        (["--schema", "data"], "not a private one"),
        (["--diff", "--as-of", "yesterday"], "'yesterday' is neither a time nor a position"),
        (["--diff", "--as-of", '{"a": 1}'], "not an object of partitions"),
        (["--diff", "--only", "name=x"], "no rows that could be replayed alone"),
    ],
)
def test_wrong_use_is_said_before_anything_begins(mesh: Mesh, arguments: list[str], said: str) -> None:
    done = mesh("replay", "shop_overview", *arguments)
    assert done.status == 2
    assert said in done.err
