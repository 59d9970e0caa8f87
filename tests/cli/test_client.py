"""`mesh client typescript`: the same views give the same bytes, and nothing that somebody else wrote is replaced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh_core.cli.client.folder import HEADER, Folder, NotOurs
from mesh_core.cli.client.generation import files, row_name
from mesh_core.settings import ROOT

VIEW = {
    "name": "lines",
    "doc": "A line, of */ an order.",
    "key": ["order_code", "product"],
    "root": "sales.line",
    "columns": [
        {"name": "order_code", "type": "text", "nullable": False},
        {"name": "product", "type": "text", "nullable": False},
        {"name": "price", "type": "numeric", "nullable": True},
    ],
}
OTHER = VIEW | {"name": "abc"}


def test_the_order_in_which_views_are_told_does_not_matter() -> None:
    assert files([VIEW, OTHER], "number", "number") == files([OTHER, VIEW], "number", "number")


def test_a_row_has_its_columns_and_no_text_ends_its_comment() -> None:
    schema = files([VIEW], "string", "bigint")["schema.ts"]
    assert "  readonly price: Decimal | null;\n" in schema
    assert "export type Decimal = string;" in schema
    assert "export type Whole = bigint;" in schema
    assert "of */" not in schema


def test_no_two_views_have_rows_of_one_name() -> None:
    names = ["a_1", "a1", "ab", "a_b", "ab_c", "a_bc"]
    assert row_name("order_overview") == "OrderOverviewRow"
    assert len({row_name(name) for name in names}) == len(names)


def test_every_problem_of_the_api_is_known() -> None:
    page = (ROOT / "docs" / "reference" / "http.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \| \d{3} \|", page, re.MULTILINE)
    documented = {kind for row in rows for kind in re.findall(r"`([^`]+)`", row)}
    union = files([VIEW], "number", "number")["problems.ts"].partition(";")[0]
    assert set(re.findall(r'^  \| "([^"]+)"', union, re.MULTILINE)) == documented


def test_a_folder_is_brought_up_to_date_and_knows_when_it_is(tmp_path: Path) -> None:
    Folder(tmp_path, {"a.ts": "1\n", "b.ts": "2\n"}).write()
    (tmp_path / "own.ts").write_text("mine\n")
    again = Folder(tmp_path, {"a.ts": "1\n"})
    assert again.differing == ["b.ts"]
    assert again.write() == ["b.ts"]
    assert again.differing == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.ts", "own.ts"}
    assert (tmp_path / "a.ts").read_text() == f"{HEADER}1\n"


def test_what_somebody_else_wrote_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("mine\n")
    with pytest.raises(NotOurs):
        Folder(tmp_path, {"a.ts": "1\n"})
