from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from annotated_types import Gt, Lt, MaxLen, MinLen
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from mesh_core.contracts import Refusal, TopicDecoder, Unknown, check_decimal, contains_nul, to_json_text
from mesh_core.model import Event, Part

WORKFLOW = "0197a000-0000-7000-8000-00000000000b"


class Colour(Enum):
    red = "red"
    blue = "blue"


class Item(Part):
    price: Decimal
    amount: int = 1


class Placed(Event, type="sales.order.placed.v1"):
    order_id: int
    placed_at: datetime
    name: str = ""
    price: Decimal = Decimal("0.50")
    weight: float | None = None
    day: date | None = None
    ref: UUID | None = None
    colour: Colour = Colour.red
    level: Literal[1, 2] | None = None
    items: list[Item] = Field(default_factory=list)
    item: Item | None = None
    free: dict[str, Any] | None = None
    must: Any = None
    anything: list[Any] = Field(default_factory=list)
    few: Annotated[int, Gt(0), Lt(10)] = 5
    code: Annotated[str, MinLen(1), MaxLen(3)] = "abc"


class Noted(Event, type="sales.order.noted.v1"):
    given: dict[str, Any]


DECODER = TopicDecoder([Placed.contract, Noted.contract])
NAMES = {"id": "e1", "source": "/s", "specversion": "1.0", "time": "2026-01-01T00:00:00Z"}


def event(type_: str = Placed.type, /, without: str = "", **attributes: Any) -> bytes:
    data = {"order_id": 1, "placed_at": "2026-01-01T00:00:00Z", **attributes.pop("data", {})}
    whole = {**NAMES, "type": type_, "data": data, **attributes}
    whole.pop(without, None)
    return json.dumps(whole).encode()


def test_an_event_is_read_with_its_envelope_and_typed_payload() -> None:
    value = event(
        subject="1",
        workflowid=WORKFLOW,
        sequence="12",
        correlationid="c",
        unknownattribute={"deep": []},
        data={
            "price": 12.340,
            "weight": 3,
            "day": "2026-02-28",
            "ref": WORKFLOW,
            "colour": "blue",
            "level": 2,
            "items": [{"price": "1.10"}, {"price": 2, "amount": 3, "unknown": None}],
            "free": {"a": [1, 0.1]},
        },
    )
    found: Any = DECODER.read(value.replace(b"12.34", b"12.340000000000000000000001"))
    assert found.__class__.__name__ == DECODER.struct_of[Placed.type].__name__
    assert (found.type, found.id, found.source, found.subject) == (Placed.type, "e1", "/s", "1")
    assert (found.workflowid, found.sequence, found.correlationid) == (UUID(WORKFLOW), 12, "c")
    assert (found.causationid, found.tenantid, found.traceparent, found.tracestate) == (None,) * 4
    assert found.time == datetime(2026, 1, 1, tzinfo=UTC)
    data = found.data
    assert (data.order_id, data.weight, data.day, data.colour, data.level) == (
        1,
        3.0,
        date(2026, 2, 28),
        "blue",
        2,
    )
    assert data.price == Decimal("12.340000000000000000000001")
    assert [(item.price, item.amount) for item in data.items] == [(Decimal("1.10"), 1), (Decimal(2), 3)]
    assert data.free == {"a": [1, Decimal("0.1")]}


def test_what_is_left_out_is_the_default() -> None:
    data = DECODER.read(event()).data
    assert (data.name, data.price, data.colour, data.items, data.item) == (
        "",
        Decimal("0.50"),
        "red",
        [],
        None,
    )


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "null_payload", "no value"),
        (b"", "not_json", "char 0"),
        (b"{", "not_json", "char 1"),
        (b"\xef\xbb\xbf{}", "not_json", "BOM"),
        (b'{"a":NaN}', "not_json", "NaN"),
        (b'"a\nb"', "not_json", "control character"),
        (b'{"a":1} {}', "not_json", "Extra data"),
        (b'"\xff"', "not_utf8", "byte 0xff"),
        (event(note="é").replace(b"\\u00e9", b"\xff"), "not_utf8", "byte 0xff"),
        (event(data={"name": "x" * 1_100_000}), "too_large", "1048576"),
        (event(note=json.loads("[" * 300 + "]" * 300)), "too_deep", "200"),
        (event(note="\ud800"), "surrogate", "half"),
        (event(data={"name": "\udc00"}), "surrogate", "half"),
        (event(data={"name": "a\0b"}), "nul_character", "U+0000"),
        (event(note={"a\0b": 1}), "nul_character", "U+0000"),
        (b"[]", "not_a_cloudevent", "object"),
        (b"{}", "not_a_cloudevent", "specversion"),
        (event(specversion="0.3"), "not_a_cloudevent", "specversion"),
        (event(without="type"), "missing_field", "`type`"),
        (event(without="id"), "missing_field", "`id`"),
        (event(without="data"), "missing_field", "`data`"),
        (event(id=""), "out_of_range", "$.id"),
        (event(id="x" * 300), "out_of_range", "$.id"),
        (event(type=7), "wrong_type", "$.type"),
        (event(time="2026-01-01T00:00:00"), "zone_missing", "$.time"),
        (event(time="0001-01-01T00:00:00+01:00"), "out_of_range", "$.time"),
        (event(workflowid="abc"), "wrong_value", "$.workflowid"),
        (event(sequence="-1"), "wrong_value", "$.sequence"),
        (event(sequence=2**63), "out_of_range", "$.sequence"),
        (event("sales.order.placed.v9"), "unknown_version", "v9"),
        (b'{"data":[],' + event()[1:], "wrong_type", "$.data"),
        (event(data={"order_id": None}), "wrong_type", "$.data.order_id"),
        (event(data={"order_id": "1"}), "wrong_type", "$.data.order_id"),
        (event(data={"order_id": True}), "wrong_type", "$.data.order_id"),
        (event(data={"order_id": 1.5}), "wrong_type", "$.data.order_id"),
        (event(data={"order_id": 2**63}), "out_of_range", "$.data.order_id"),
        (event(data={"order_id": -(2**63) - 1}), "out_of_range", "$.data.order_id"),
        (event(data={"order_id": 10**80}), "out_of_range", "$.data.order_id"),
        (event(data={"placed_at": "2026-01-01T00:00:00"}), "zone_missing", "$.data.placed_at"),
        (event(data={"placed_at": "9999-12-31T23:59:59-01:00"}), "out_of_range", "$.data.placed_at"),
        (event(data={"placed_at": 5}), "wrong_type", "$.data.placed_at"),
        (event(data={"price": "NaN"}), "out_of_range", "$.data.price"),
        (event(data={"price": "sNaN"}), "out_of_range", "$.data.price"),
        (event(data={"price": "-Infinity"}), "out_of_range", "$.data.price"),
        (event(data={"price": "1e1001"}), "out_of_range", "$.data.price"),
        (event(data={"price": "1e-1001"}), "out_of_range", "$.data.price"),
        (event(data={"price": "0." + "1" * 1001}), "out_of_range", "$.data.price"),
        (event(data={"items": [{"price": 1}, {"price": "inf"}]}), "out_of_range", "$.data.items[1].price"),
        (event(data={"items": [{"amount": 1}]}), "missing_field", "$.data.items[0]"),
        (event(data={"items": None}), "wrong_type", "$.data.items"),
        (event(data={"colour": "green"}), "wrong_value", "$.data.colour"),
        (event(data={"few": 0}), "out_of_range", "$.data.few"),
        (event(data={"few": 10}), "out_of_range", "$.data.few"),
        (event(data={"code": "abcd"}), "out_of_range", "$.data.code"),
        (event(data={"free": {"a": 1}}).replace(b'"a": 1', b'"a": 1e2000'), "out_of_range", "$.data.free"),
        (event(data={"weight": 1}).replace(b'"weight": 1', b'"weight": 1e400'), "out_of_range", "range"),
        (event(Noted.type, data={"given": None}), "wrong_type", "$.data.given"),
        (event(data={"anything": [1, None]}), "wrong_type", "$.data.anything[1]"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(
    value: bytes | None, reason: str, detail: str
) -> None:
    found = DECODER.read(value)
    assert isinstance(found, Refusal), found
    assert found.reason == reason
    assert detail in found.detail


def test_a_refusal_names_the_event_as_far_as_it_can_be_read() -> None:
    found = DECODER.read(event(subject="7", data={"order_id": "x"}))
    assert (found.event_type, found.event_id, found.subject) == (Placed.type, "e1", "7")
    assert DECODER.read(b"[").event_type is None


def test_a_type_that_no_contract_knows_keeps_its_envelope() -> None:
    found = DECODER.read(event("crm.customer.saved.v2", workflowid=WORKFLOW, sequence="3"))
    assert isinstance(found, Unknown)
    assert (found.service, found.entity, found.workflowid, found.sequence) == (
        "crm",
        "customer",
        UUID(WORKFLOW),
        3,
    )
    assert DECODER.read(event("something", without="data")).service is None


def test_a_topic_with_one_contract_or_none_still_needs_the_type() -> None:
    alone = TopicDecoder([Noted.contract])
    assert alone.read(event(without="type")).reason == "missing_field"
    assert alone.read(event("\0")).reason == "nul_character"
    assert isinstance(TopicDecoder([]).read(event()), Unknown)


def test_in_an_object_that_names_a_field_twice_the_last_one_counts() -> None:
    assert DECODER.read(event().replace(b'"order_id": 1', b'"order_id": 1, "order_id": 2')).data.order_id == 2


def test_depth_is_not_measured_in_texts() -> None:
    assert DECODER.read(event(data={"name": '[{"' * 400})).data.name == '[{"' * 400
    assert DECODER.read(event(note=[[]] * 400)).id == "e1"


@given(st.text() | st.sampled_from(["\0", "\\u0000", "\\\0", "\\\\u0000", '"\0']), st.booleans())
def test_nul_is_found_however_it_is_escaped(text: str, ascii_only: bool) -> None:
    value = json.dumps({"a": text}, ensure_ascii=ascii_only).encode()
    assert contains_nul(value) == ("\0" in text)


@pytest.mark.parametrize(
    ("number", "precision", "scale", "fits"),
    [
        ("1.500", 4, 2, True),
        ("1.505", 4, 2, False),
        ("99.99", 4, 2, True),
        ("100", 4, 2, False),
        ("1e2", 4, 2, False),
        ("1e1", 4, 2, True),
        ("0", 2, 2, True),
        ("0e9", 2, 2, True),
        ("-0.99", 2, 2, True),
        ("1", 2, 2, False),
        ("1e500", None, None, True),
        ("12", 2, None, True),
        ("1.0", 2, None, True),
    ],
)
def test_a_number_fits_its_column_without_rounding(
    number: str, precision: int | None, scale: int | None, fits: bool
) -> None:
    assert (check_decimal(Decimal(number), precision, scale) is None) == fits


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=None), st.integers(1, 30), st.integers(0, 10)
)
def test_a_number_that_fits_is_not_changed_by_rounding(number: Decimal, precision: int, scale: int) -> None:
    scale = min(scale, precision)
    scaled = Context(prec=2000).scaleb(number, scale)
    whole = scaled.to_integral_value(context=Context(prec=2000))
    fits = whole == scaled and abs(whole) < 10**precision
    assert (check_decimal(number, precision, scale) is None) == fits


def test_values_become_json_text_without_loss() -> None:
    data = DECODER.read(event(data={"items": [{"price": "1.10"}], "free": {"a": 1}})).data
    assert to_json_text(data.items) == '[{"price":1.10,"amount":1}]'
    assert to_json_text(data.free) == '{"a":1}'
    assert to_json_text([Decimal("1E+400"), None, "é"]) == '[1E+400,null,"é"]'
