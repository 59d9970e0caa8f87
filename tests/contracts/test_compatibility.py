"""Changes of contracts: each decided as docs/reference/contracts.md says, and never against what the decoder does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_core.contracts import Change, Mode, Refusal, TopicDecoder, contract_of, differences
from mesh_core.model.event import Contract
from mesh_core.model.types import Field, FieldType
from mesh_core.settings import ROOT
from tests.contracts.test_decoding import event
from tests.contracts.test_schema import TYPES, fields, likely

NAME = "sales.order.placed.v1"
TEXT, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
EXACT = {"anyOf": [NUMBER, TEXT]}
OK, BREAKS = True, False


def contract(required: dict[str, Any], optional: dict[str, Any] | None = None, name: str = NAME) -> Contract:
    schema = {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }
    return contract_of(name, schema)


def one(described: dict[str, Any]) -> Contract:
    return contract({"a": described})


TABLE = {
    "add optional": (contract({"a": TEXT}), contract({"a": TEXT}, {"b": TEXT}), OK, OK),
    "add required": (contract({"a": TEXT}), contract({"a": TEXT, "b": TEXT}), BREAKS, OK),
    "remove optional": (contract({"a": TEXT}, {"b": TEXT}), contract({"a": TEXT}), OK, OK),
    "remove required": (contract({"a": TEXT, "b": TEXT}), contract({"a": TEXT}), OK, BREAKS),
    "rename": (contract({"a": TEXT}), contract({"b": TEXT}), BREAKS, BREAKS),
    "rename optional": (contract({}, {"a": TEXT}), contract({}, {"b": TEXT}), OK, OK),
    "make required": (contract({}, {"a": TEXT}), contract({"a": TEXT}), BREAKS, OK),
    "make optional": (contract({"a": TEXT}), contract({}, {"a": TEXT}), OK, BREAKS),
    "default changed": (
        contract({}, {"a": TEXT | {"default": "x"}}), contract({}, {"a": TEXT | {"default": "y"}}), BREAKS, BREAKS
    ),
    "widen integer to decimal": (one(INTEGER), one(EXACT), OK, BREAKS),
    "widen small integer to float": (one(INTEGER | {"minimum": 0, "maximum": 9}), one(NUMBER), OK, BREAKS),
    "integer to float": (one(INTEGER), one(NUMBER), BREAKS, BREAKS),
    "widen float to decimal": (one(NUMBER), one(EXACT), OK, BREAKS),
    "narrow decimal to integer": (one(EXACT), one(INTEGER), BREAKS, OK),
    "widen date to text": (one(TEXT | {"format": "date"}), one(TEXT), OK, BREAKS),
    "widen uuid to text": (one(TEXT | {"format": "uuid"}), one(TEXT), OK, BREAKS),
    "widen text to anything": (one(TEXT), one({}), OK, BREAKS),
    "narrow the length": (one(TEXT), one(TEXT | {"maxLength": 9}), BREAKS, OK),
    "widen the length": (one(TEXT | {"maxLength": 9}), one(TEXT | {"maxLength": 10}), OK, BREAKS),
    "narrow the range": (one(NUMBER | {"minimum": 0}), one(NUMBER | {"exclusiveMinimum": 0}), BREAKS, OK),
    "widen the range": (one(INTEGER | {"maximum": 5}), one(INTEGER | {"maximum": 6}), OK, BREAKS),
    "the same range": (one(INTEGER | {"exclusiveMinimum": 0}), one(INTEGER | {"minimum": 1}), OK, OK),
    "pattern added": (one(TEXT), one(TEXT | {"pattern": "^a"}), BREAKS, OK),
    "pattern changed": (one(TEXT | {"pattern": "^a"}), one(TEXT | {"pattern": "^b"}), BREAKS, BREAKS),
    "enum grows": (one({"enum": ["a"]}), one({"enum": ["a", "b"]}), OK, BREAKS),
    "enum shrinks": (one({"enum": ["a", "b"]}), one({"enum": ["a"]}), BREAKS, OK),
    "enum to text": (one({"enum": ["a", "b"]}), one(TEXT), OK, BREAKS),
    "enum to a shorter text": (one({"enum": ["a", "bb"]}), one(TEXT | {"maxLength": 1}), BREAKS, BREAKS),
    "made nullable": (one(TEXT), one({"type": ["string", "null"]}), OK, BREAKS),
    "null not allowed": (one({"type": ["string", "null"]}), one(TEXT), BREAKS, OK),
    "type changed": (one(TEXT), one(INTEGER), BREAKS, BREAKS),
    "one to many": (one(TEXT), one({"type": "array", "items": TEXT}), BREAKS, BREAKS),
    "within a list": (
        one({"type": "array", "items": TEXT}), one({"type": "array", "items": {"type": ["string", "null"]}}), OK, BREAKS
    ),
    "within a part": (
        one({"type": "object", "properties": {"b": TEXT}}),
        one({"type": "object", "properties": {"b": TEXT, "c": TEXT}, "required": ["c"]}), BREAKS, OK,
    ),
}  # fmt: skip


def _allowed(found: list[Change]) -> dict[Mode, bool]:
    modes: tuple[Mode, ...] = ("backward", "forward", "full")
    return {mode: all(each.breaks(mode) is None for each in found) for mode in modes}


@pytest.mark.parametrize("change", TABLE)
def test_each_change_is_decided_as_documented(change: str) -> None:
    old, new, backward, forward = TABLE[change]
    found = differences([old], [new])
    assert _allowed(found) == {"backward": backward, "forward": forward, "full": backward and forward}
    # Seen from the other side, each breaks what it did not break before.
    undone = differences([new], [old])
    assert _allowed(undone) == {"backward": forward, "forward": backward, "full": backward and forward}


@pytest.mark.parametrize("change", TABLE)
def test_the_table_in_the_documentation_says_the_same(change: str) -> None:
    text = (ROOT / "docs" / "reference" / "contracts.md").read_text("utf-8")
    _, _, backward, forward = TABLE[change]
    cells = ["yes" if each else "no" for each in (backward, forward, backward and forward)]
    assert f"| {change} | {' | '.join(cells)} |" in text


def test_types_come_and_go() -> None:
    first, second = contract({"a": TEXT}), contract({"a": INTEGER}, name="sales.order.placed.v2")
    (gone,) = differences([first], [])
    assert (gone.what, bool(gone.backward), gone.forward) == ("type removed", True, None)
    (new,) = differences([], [first])
    assert (new.what, new.backward, new.forward) == ("type added", None, None)
    (major,) = differences([first], [first, second])
    assert major.forward == "readers that know only sales.order.placed.v1 refuse it"


@given(fields(TYPES), fields(TYPES), st.data())
@settings(max_examples=100, deadline=None)
def test_what_breaks_nothing_is_read(
    before: tuple[Field, ...], after: tuple[Field, ...], data: st.DataObject
) -> None:
    check(before, after, data)


@given(fields(TYPES), fields(TYPES), st.data())
@settings(max_examples=100, deadline=None)
def test_additions_that_break_nothing_are_read(
    before: tuple[Field, ...], more: tuple[Field, ...], data: st.DataObject
) -> None:
    known = {field.name for field in before}
    check(before, (*before, *(field for field in more if field.name not in known)), data)


def check(before: tuple[Field, ...], after: tuple[Field, ...], data: st.DataObject) -> None:
    old, new = Contract(NAME, before), Contract(NAME, after)
    found = differences([old], [new])
    payload = data.draw(likely(FieldType("object", fields=before)))
    # Fields that the old contract does not have are not its to say anything of: samples are there for these.
    value = json.dumps({**json.loads(event()), "data": _known(payload, before)}).encode()
    if not isinstance(TopicDecoder([old]).read(value), Refusal) and not any(each.backward for each in found):
        assert not isinstance(read := TopicDecoder([new]).read(value), Refusal), (read, found)


def _known(payload: Any, described: tuple[Field, ...]) -> Any:
    if not isinstance(payload, dict):
        return payload
    kinds = {field.name: field.type for field in described}
    return {name: _known_of(value, kinds[name]) for name, value in payload.items() if name in kinds}


def _known_of(value: Any, kind: FieldType) -> Any:
    if kind.kind == "object":
        return _known(value, kind.fields)
    if kind.kind == "list" and isinstance(value, list):
        assert kind.item is not None
        return [_known_of(each, kind.item) for each in value]
    return value
