"""The AsyncAPI document: what a public parser says of it, and that it has every contract."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema_rs
import pytest

from mesh_core.contracts import asyncapi, json_schema
from mesh_core.model import Catalog, Event, upcast
from tests.examples.conftest import NODE, NPM

_PARSE = """
const { Parser } = require("@asyncapi/parser");
const text = require("fs").readFileSync(process.argv[1], "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => {
  const operations = document ? document.operations().all().map((each) => each.id()) : null;
  console.log(JSON.stringify({ operations, diagnostics }));
});
"""


@pytest.mark.skipif(
    NODE is None or not NPM.is_dir(), reason="There is no Node, or it was installed without it."
)
@pytest.mark.parametrize(
    "modules", ["projections.northwind", "tests.engine.domain", "tests.contracts.test_decoding"]
)
def test_a_public_parser_takes_it(modules: str, tmp_path: Path) -> None:
    document = tmp_path / "asyncapi.json"
    contracts = Catalog.load(modules).contracts.values()
    document.write_text(json.dumps(asyncapi(contracts)))
    done = subprocess.run(
        [str(NODE), "-e", _PARSE, str(document)],
        cwd=NPM.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout)
    # Severity 2 and 3 are advice, such as to add a licence.
    assert [each for each in found["diagnostics"] if each["severity"] < 2] == []
    assert set(found["operations"]) == {f"publish_{contract.service}" for contract in contracts}


def test_every_contract_is_in_it_once() -> None:
    contracts = Catalog.load("projections.northwind").contracts
    document = asyncapi(contracts.values())
    assert set(document["components"]["messages"]) == set(contracts)
    channels = document["channels"]
    assert {name for channel in channels.values() for name in channel["messages"]} == set(contracts)
    assert all(channel["address"] == name for name, channel in channels.items())
    placed = document["components"]["messages"]["sales.order.placed.v1"]["payload"]
    assert placed == {
        k: v for k, v in json_schema(contracts["sales.order.placed.v1"]).items() if k != "$schema"
    }
    jsonschema_rs.Draft7Validator(placed)


def test_a_superseded_contract_says_so() -> None:
    class First(Event, type="shop.item.made.v1"):
        sku: str

    class Second(Event, type="shop.item.made.v2", upcasts=[upcast(First)]):
        """An item was made."""

        sku: str

    messages = asyncapi([First.contract, Second.contract])["components"]["messages"]
    assert messages[First.type]["description"] == "Superseded by shop.item.made.v2."
    assert messages[Second.type]["summary"] == "An item was made."
    assert "x-superseded-by" not in messages[Second.type]
