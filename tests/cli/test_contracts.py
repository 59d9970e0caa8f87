"""`mesh contracts`: exported, compared, and tried on what is in the log."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mesh_core.contracts import data_schema
from mesh_core.emit import Publisher
from mesh_core.model.builtin import ContractsRegistered
from tests.cli.conftest import Mesh
from tests.cli.domain import ItemAdded, added, lines, sold

DOMAIN = """
from decimal import Decimal
from typing import Any, Literal
from mesh_core.model import Col, CustomView, Entity, Event, Key, View, column, many, upsert


class ItemAdded(Event, type="shop.item.added.v1"):
    item_id: int
    name: str
    price: Decimal
    {field}


class ItemSold(Event, type="shop.sale.made.v1"):
    sale_id: int
    item_id: int
    quantity: int


class Item(Entity, service="shop"):
    item_id: Key[int]
    name: Col[str]
    price: Col[Decimal]{column}
    folds = upsert(ItemAdded)


class Sale(Entity, service="shop"):
    sale_id: Key[int]
    item_id: Col[int]
    quantity: Col[int]
    folds = upsert(ItemSold)


sales = many(Sale.item_id, Item.item_id)
shop_overview = View("shop_overview", Item, item_id=Item.item_id, worth=sales.sum(Sale.quantity))
{view}
"""
Change = Callable[..., None]


def registered(mesh: Mesh) -> None:
    """A contract of another service, as `PUT /v1/services/courier/contracts` has it."""
    parcel = {"type": "object", "required": ["parcel_id"], "properties": {"parcel_id": {"type": "string"}}}
    event = ContractsRegistered(
        owner="courier", contracts={"courier.parcel.sent.v1": parcel}, registered_by="courier"
    )
    with Publisher(mesh.surroundings.driver, "/test") as publisher:
        publisher.publish(event)
    mesh.project()


@pytest.fixture
def change(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Change:
    """Makes the code that `mesh` reads a changed one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    count = iter(range(100))

    def made(field: str = "", column: str = "", view: str = "") -> None:
        name = f"changed_{tmp_path.name.replace('-', '_')}_{next(count)}"
        (tmp_path / f"{name}.py").write_text(DOMAIN.format(field=field, column=column, view=view))
        monkeypatch.setenv("MESH_CATALOG", name)

    yield made  # type: ignore[misc]  # a fixture
    for name in [each for each in sys.modules if each.startswith("changed_")]:
        del sys.modules[name]


def test_what_is_exported_is_the_same_when_read_again(mesh: Mesh, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    (folder / "notes").mkdir(parents=True)
    (folder / "package.json").write_text("{}")
    (folder / "shop.item.gone.v1.json").write_text("{}")
    assert mesh("contracts", "export", "--to", str(folder), "--json").json["types"] == [
        "shop.item.added.v1", "shop.sale.made.v1",
    ]  # fmt: skip
    assert {each.name for each in folder.iterdir()} == {
        "asyncapi.json", "notes", "package.json", "shop.item.added.v1.json", "shop.sale.made.v1.json",
    }  # fmt: skip
    assert json.loads((folder / "shop.item.added.v1.json").read_text()) == data_schema(ItemAdded.contract)
    before = {each.name: each.read_bytes() for each in folder.glob("*.json")}
    assert mesh("contracts", "export", "--to", str(folder)).status == 0
    assert {each.name: each.read_bytes() for each in folder.glob("*.json")} == before
    assert "No contract differs." in mesh("contracts", "diff", "--against", str(folder)).out
    assert mesh("contracts", "check", "--against", str(folder), "--samples", "0").status == 0


def test_registered_contracts_are_exported_and_compared(mesh: Mesh, tmp_path: Path) -> None:
    mesh.deployed()
    registered(mesh)
    folder = str(tmp_path / "contracts")
    wrote = mesh("contracts", "export", "--to", folder, "--registered", "--json").json
    assert "courier.parcel.sent.v1" in wrote["types"]
    for command in (("diff",), ("check", "--samples", "0")):
        same = mesh("contracts", *command, "--against", folder, "--registered")
        assert (same.status, "No contract differs." in same.out) == (0, True), same.out
    assert mesh("contracts", "check", "--samples", "0", "--against", folder).status == 1, "one has gone"


def test_differences_are_told_and_decided_by_the_mode(mesh: Mesh, change: Change, tmp_path: Path) -> None:
    folder = str(tmp_path / "contracts")
    mesh("contracts", "export", "--to", folder)
    change("colour: Literal['red', 'blue']")
    (told,) = mesh("contracts", "diff", "--against", folder, "--json").json
    assert (told["path"], told["what"], told["forward"]) == ("$.data.colour", "required field added", None)
    for mode, status in (("backward", 1), ("forward", 0), ("full", 1)):
        done = mesh("contracts", "check", "--against", folder, "--mode", mode, "--samples", "0")
        assert done.status == status, done.out
    assert "breaks: shop.item.added.v1: required field added" in done.out
    assert mesh("contracts", "diff", "--against", str(tmp_path / "nowhere")).status == 2
    unknown = mesh("contracts", "check", "--mode", "sideways")
    assert unknown.status == 2
    assert "Invalid value for '--mode': 'sideways' is not one of 'backward', " in unknown.err


def published(mesh: Mesh, *events: dict[str, Any]) -> None:
    mesh.deployed()
    mesh.publish(lines(*events))
    mesh.project()


def tried(mesh: Mesh, *more: str) -> tuple[int, Any]:
    done = mesh("contracts", "check", "--json", *more)
    assert done.out, done.err
    return done.status, done.json


def kept(mesh: Mesh) -> list[Any]:
    """All that a trial must leave alone."""
    with psycopg.connect(mesh.surroundings.database_url) as connection:
        return [
            connection.execute(f"SELECT {what}").fetchall()
            for what in (
                "id, state FROM mesh.versions ORDER BY id",
                "topic, next_offset FROM mesh.checkpoints ORDER BY 1, partition",
                'topic, "offset" FROM mesh.held_events ORDER BY 1, 2',
                "tablename::text FROM pg_tables WHERE schemaname = 'data' ORDER BY 1",
            )
        ]


def test_samples_prove_what_the_schemas_do_not_show(mesh: Mesh, change: Change) -> None:
    """An optional field is fine by all rules; but some events have it already, as something else."""
    odd = added(2)
    odd["data"]["colour"] = 7
    again = added(3)
    again["data"]["colour"] = 8
    published(mesh, added(1), odd, again, sold(1, 1))
    before = kept(mesh)
    change("colour: str | None = None")
    status, told = tried(mesh)
    assert [each["breaks"] for each in told["changes"]] == [None]
    broken, other = told["samples"]["broken"]
    assert (status, told["samples"]["records"], broken["reason"]) == (1, 4, "wrong_type")
    assert broken["detail"] == other["detail"] == "Expected `str | null`, got `int` - at `$.data.colour`"
    assert tried(mesh, "--samples", "0")[0] == 0
    (line,) = [each for each in mesh("contracts", "check").out.splitlines() if each.startswith("would be")]
    assert re.fullmatch(
        r"would be refused: shop\.events\[\d\] offset \d and 1 more: shop\.item\.added\.v1: wrong_type: Expected .*",
        line,
    )
    assert kept(mesh) == before

    change("color: str | None = None")
    assert tried(mesh)[0] == 0


def test_projections_are_tried_too(mesh: Mesh, change: Change) -> None:
    published(mesh, added(1), added(2), sold(1, 1, 2**62), sold(2, 1, 2**62))
    before = kept(mesh)
    change(column=" = column(precision=4, scale=1)")
    assert tried(mesh)[0] == 0
    change(column=" = column(precision=2, scale=1)")
    status, told = tried(mesh)
    assert (status, told["changes"]) == (1, [])
    broken = told["samples"]["broken"]
    assert [(each["name"], each["reason"]) for each in broken] == [("shop.item", "does_not_fit")] * 2
    sql = "SELECT item_id, item_id * 9223372036854775807 AS square FROM {shop_item}"
    change(
        view=f"squares = CustomView('squares', Item, number=1, sql='{sql}', columns=dict(item_id=int, square=int))"
    )
    status, told = tried(mesh)
    (broken,) = told["samples"]["broken"]
    assert (status, broken["name"], broken["reason"]) == (1, "squares", "refused_by_postgres")
    assert "out of range" in broken["detail"]
    assert kept(mesh) == before


def test_the_last_contract_of_a_service_is_missed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh.deployed()
    monkeypatch.setenv("MESH_CATALOG", "tests.read.declarations")
    told = mesh("contracts", "diff", "--json").json
    gone = {each["type"] for each in told if each["what"] == "type removed"}
    assert gone == {"shop.item.added.v1", "shop.sale.made.v1"}


def test_what_is_refused_now_is_no_news(mesh: Mesh, change: Change) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1)))
    bad = json.dumps(added(2) | {"data": {"item_id": "2"}}).encode()
    mesh.send("shop.events", b"2", bad)
    mesh.send("shop.events", b"3", json.dumps(added(4)).encode())
    mesh.project()
    change("colour: str | None = None")
    status, told = tried(mesh)
    assert (status, told["samples"]) == (0, {"records": 3, "refused_now": 2, "broken": []})


def test_without_a_database_or_a_log_it_says_so(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    done = mesh("contracts", "check")
    assert (done.status, "mesh migrate" in done.err) == (3, True)
    mesh.deployed()
    monkeypatch.setenv("MESH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert mesh("contracts", "check").status == 3
    assert mesh("contracts", "check", "--samples", "0").status == 0
