"""Contracts read from JSON Schema say what the schema said, or are refused by the place that they cannot hold."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from pydantic import BaseModel

from mesh_core.contracts import contract_of, contracts_of, data_schema
from mesh_core.contracts.reading import SchemaNotUnderstood
from mesh_core.model.event import Contract
from mesh_core.model.types import Field
from tests.contracts.test_schema import TYPES, fields

NAME = "sales.order.placed.v1"


@given(fields(TYPES))
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(described: tuple[Field, ...]) -> None:
    schema = json.loads(json.dumps(data_schema(Contract(NAME, described))))
    assert data_schema(contract_of(NAME, schema)) == schema


def test_what_pydantic_writes_is_read() -> None:
    from datetime import datetime
    from decimal import Decimal
    from typing import Literal
    from uuid import UUID

    class Item(BaseModel):
        sku: str
        price: Decimal

    class Placed(BaseModel):
        order_id: int
        note: str | None = None
        status: Literal["new", "old"] = "new"
        items: list[Item]
        placed_at: datetime
        by: UUID | None
        attributes: dict[str, str]

    contract = contract_of(NAME, Placed.model_json_schema())
    kinds = {field.name: (field.type.kind, field.type.nullable, field.required) for field in contract.fields}
    assert kinds == {
        "order_id": ("int", False, True),
        "note": ("text", True, False),
        "status": ("enum", False, False),
        "items": ("list", False, True),
        "placed_at": ("timestamptz", False, True),
        "by": ("uuid", True, True),
        "attributes": ("json", False, True),
    }
    items = next(field for field in contract.fields if field.name == "items").type.item
    assert items is not None
    assert [(field.name, field.type.kind) for field in items.fields] == [
        ("sku", "text"),
        ("price", "numeric"),
    ]
    jsonschema_rs.Draft202012Validator(data_schema(contract))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "at $ is not a schema"),
        ({"type": "string"}, "at $ is not an object"),
        ({"type": "object"}, "at $ is not an object"),
        ({"type": ["object", "null"], "properties": {}}, "at $ is not an object"),
        (
            {"type": "object", "properties": {}, "additionalProperties": False},
            "$.additionalProperties is false",
        ),
        ({"type": "object", "properties": {}, "minProperties": 1}, "$.minProperties is not understood"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "names 'a', which is no property"),
        ({"type": "object", "properties": {"a-b": {}}}, "$.properties.a-b is not a name"),
        ({"type": "object", "properties": {"__a": {}}}, "is not a name"),
        ({"type": "object", "properties": {"a": {"type": ["string", "integer"]}}}, "a.type is not one type"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "a.type is 'text', which is no type"),
        ({"type": "object", "properties": {"a": {"type": {}}}}, "which is no type"),
        (
            {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
            "a.anyOf",
        ),
        ({"type": "object", "properties": {"a": {"anyOf": 1}}}, "a.anyOf is not a list"),
        ({"type": "object", "properties": {"a": {"allOf": []}}}, "a.allOf is not understood"),
        ({"type": "object", "properties": {"a": {"enum": [1.5]}}}, "neither text nor whole number"),
        ({"type": "object", "properties": {"a": {"enum": [None]}}}, "a.enum has no value"),
        (
            {"type": "object", "properties": {"a": {"enum": ["x"], "type": "integer"}}},
            "a.type is not that of the values",
        ),
        ({"type": "object", "properties": {"a": {"enum": ["x"], "const": "y"}}}, "a.const is beside an enum"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "pattern": "a{4294967296}"}}},
            "no regular expression",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
            "no regular expression",
        ),
        ({"type": "object", "properties": {"a": {"type": "string", "minLength": -1}}}, "is no limit"),
        ({"type": "object", "properties": {"a": {"type": "integer", "minimum": "0"}}}, "is no limit"),
        ({"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 2}}}, "multipleOf"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "format": "uuid", "maxLength": 3}}},
            "format uuid",
        ),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}, "does not fit"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}, "which is not there"),
        ({"type": "object", "properties": {"a": {"$ref": "https://x"}}}, "not a place in this schema"),
        (
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/A"}},
                "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}},
            },
            "which it is part of",
        ),
        (
            {"type": "object", "properties": {f"a{number}": {} for number in range(5001)}},
            "more than 5,000 fields",
        ),
    ],
)
def test_what_a_contract_cannot_hold_is_refused_by_its_place(schema: Any, said: str) -> None:
    with pytest.raises(SchemaNotUnderstood) as caught:
        contract_of(NAME, schema)
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("major", ["1234567890", "9" * 5_000])
def test_a_major_is_a_number_that_can_be_counted(major: str) -> None:
    with pytest.raises(SchemaNotUnderstood, match="is not a type of event"):
        contract_of(f"sales.order.placed.v{major}", {"type": "object", "properties": {}})


def test_what_is_named_again_and_again_counts_each_time() -> None:
    twice = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}, "b": {"$ref": "#/$defs/d0"}}}
    defs: dict[str, Any] = {"d11": {"type": "string"}}
    for number in range(11):
        below = {"$ref": f"#/$defs/d{number + 1}"}
        defs[f"d{number}"] = {"type": "object", "properties": {"a": below, "b": below}}
    with pytest.raises(SchemaNotUnderstood, match="more than 5,000 fields in all"):
        contracts_of("sales", {NAME: twice | {"$defs": defs}, f"{NAME[:-1]}2": twice | {"$defs": defs}})


def test_a_registered_pattern_is_tried_on_short_texts_alone() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a*$"}}}
    with pytest.raises(SchemaNotUnderstood, match="needs a maxLength of at most 1,000"):
        contracts_of("sales", {NAME: schema})


def test_a_name_that_is_no_type_is_refused() -> None:
    with pytest.raises(SchemaNotUnderstood, match="is not a type of event"):
        contract_of("placed", {"type": "object", "properties": {}})


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("^[A-Z]{2}[0-9]{6}$", True), ("^[a-z][a-z0-9-]*$", True), (r"^\d{4}-\d{2}$", True), ("^a?b+c", True),
        (r"^[^@\s]+@example\.org$", True), ("^$", True), (r"^-?\d{1,9}$", True),
        ("^a?a?a?a?b", False), ("^a{0,9}a{0,9}b", False), ("^a*a{0,9}", False),
        ("[a-z]*b", False), ("^(a+)+$", False), ("^(a|a)*$", False), ("^a*a*b", False), (r"^(a)\1$", False),
        ("^[a-z]{0,999}$", True), ("^[a-z]{0,9999}$", False),
        ("^a{2}{2}$", False), ("^" + "a" * 200, False), ("^(?=a)", False), ("^a*?b", False), ("^a++b", False),
    ],
)  # fmt: skip
def test_a_registered_pattern_takes_no_longer_than_the_text_is_long(pattern: str, taken: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 99, "pattern": pattern}}}
    if taken:
        assert contracts_of("sales", {NAME: schema})
    else:
        with pytest.raises(SchemaNotUnderstood, match=r"a\.pattern"):
            contracts_of("sales", {NAME: schema})
