"""The published schema and the decoder take the same events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_core.contracts import Refusal, TopicDecoder, data_schema, json_schema
from mesh_core.model.event import Contract
from mesh_core.model.types import Field, FieldType
from tests.contracts.test_decoding import DECODER, Noted, Placed, event

VALIDATOR = jsonschema_rs.Draft202012Validator(json_schema(Placed.contract), validate_formats=True)

SCALARS = st.sampled_from(
    ["int", "text", "numeric", "float", "bool", "timestamptz", "date", "uuid", "json"]
).flatmap(lambda kind: st.builds(FieldType, st.just(kind), st.booleans()))
LIMITED = st.sampled_from(
    [
        FieldType("int", constraints=(("gt", -1), ("lt", 2))),
        FieldType("int", True, constraints=(("ge", -1), ("le", 1))),
        FieldType("float", constraints=(("ge", 0), ("lt", 2.5))),
        FieldType("text", constraints=(("max_length", 1), ("min_length", 1))),
        FieldType("text", constraints=(("pattern", "^[ab]"),)),
        FieldType("enum", values=("a", 1)),
        FieldType("enum", True, values=("a", "b")),
        FieldType("list", item=FieldType("bool"), constraints=(("max_length", 1),)),
    ]
)


def fields(of: st.SearchStrategy[FieldType]) -> st.SearchStrategy[tuple[Field, ...]]:
    described = st.tuples(of, st.booleans()).map(lambda both: both)
    return st.dictionaries(st.sampled_from(["a", "b", "class"]), described, max_size=3).map(
        lambda found: tuple(
            Field(name, kind if required else FieldType(**_facts(kind, nullable=True)), required)
            for name, (kind, required) in found.items()
        )
    )


def _facts(kind: FieldType, **changes: Any) -> dict[str, Any]:
    names = ("kind", "nullable", "item", "fields", "values", "constraints")
    return {**{name: getattr(kind, name) for name in names}, **changes}


TYPES = st.recursive(
    SCALARS | LIMITED,
    lambda inner: st.one_of(
        st.builds(FieldType, st.just("list"), st.booleans(), inner),
        fields(inner).map(lambda found: FieldType("object", fields=found)),
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    st.sampled_from(
        [
            None, True, False, 0, 1, -1, 2, 2**63 - 1, 2**63, -(2**63), 10**30, 0.5, 2.5, -3.25, "", "a",
            "b", "ab", "c", "1.5", "-0.1e3", "2026-01-01", "2026-02-30", "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00+02:00", "0197a000-0000-7000-8000-00000000000b",
        ]
    ),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["a", "b", "class", "zzz"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(fields(TYPES), VALUES)
@settings(max_examples=100, deadline=None)
def test_schema_and_decoder_agree_on_any_payload(described: tuple[Field, ...], payload: Any) -> None:
    check_agreement(described, payload)


def check_agreement(described: tuple[Field, ...], payload: Any) -> None:
    contract = Contract("sales.order.placed.v1", described)
    whole = {**json.loads(event()), "data": payload}
    validator = jsonschema_rs.Draft202012Validator(json_schema(contract), validate_formats=True)
    refused = TopicDecoder([contract]).read(json.dumps(whole).encode())
    assert validator.is_valid(whole) == (not isinstance(refused, Refusal)), refused


@st.composite
def likely(draw: Callable[[Any], Any], kind: FieldType) -> Any:
    """Values that a type mostly takes."""
    if kind.nullable and draw(st.booleans()):
        return None
    if kind.kind == "object":
        return {
            field.name: draw(likely(field.type))
            for field in kind.fields
            if field.required or draw(st.booleans())
        }
    if kind.kind == "list":
        assert kind.item is not None
        return draw(st.lists(likely(kind.item), max_size=2))
    if kind.kind == "enum":
        return draw(st.sampled_from(kind.values))
    return draw(VALUES.filter(lambda value: not isinstance(value, list | dict)))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_schema_and_decoder_agree_on_likely_events(data: st.DataObject) -> None:
    described = data.draw(fields(TYPES))
    check_agreement(described, data.draw(likely(FieldType("object", fields=described))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "1.1"), ("id", ""), ("id", "x" * 257), ("source", 5), ("time", "2026-01-01T00:00:00"),
        ("subject", None), ("subject", "x" * 513), ("workflowid", None), ("workflowid", "x"),
        ("sequence", None), ("sequence", 2**63), ("sequence", "007"), ("sequence", "-1"), ("sequence", "1\n"),
        ("traceparent", 1),
        ("tenantid", None), ("data", None), ("data", []), ("another", {}),
    ],
)  # fmt: skip
def test_schema_and_decoder_agree_on_envelopes(name: str, value: Any) -> None:
    whole = {**json.loads(event()), name: value}
    refused = DECODER.read(json.dumps(whole).encode())
    assert VALIDATOR.is_valid(whole) == (not isinstance(refused, Refusal)), refused


def test_schemas_are_valid_and_say_what_an_event_means() -> None:
    schema = json_schema(Placed.contract)
    jsonschema_rs.meta.validate(schema)
    assert schema["properties"]["type"] == {"const": "sales.order.placed.v1"}
    assert data_schema(Noted.contract)["required"] == ["given"]
    assert schema["properties"]["data"]["properties"]["price"]["default"] == "0.50"
