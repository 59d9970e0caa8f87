from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from mesh_core.log import EnvelopeError
from mesh_core.log.cloudevents import encode_structured, is_binary, structured_from_binary

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/sales",
    "type": "sales.order.placed.v1",
    "subject": "10248",
    "time": datetime(1996, 7, 4, 12, 0, 0, 123_000, timezone(timedelta(hours=2))),
    "datacontenttype": "application/json",
    "workflowid": UUID("0198c0de-0000-7000-8000-000000000001"),
    "causationid": None,
    "sequence": 3,
    "data": {"price": Decimal("14.000"), "tiny": Decimal("1E-7"), "note": None, "города": "Reims"},
}


def test_an_event_is_structured_json_with_exact_numbers() -> None:
    text = encode_structured(EVENT).decode()
    assert '"price":14.000' in text
    found = json.loads(text, parse_float=Decimal)
    assert found == {
        **{name: value for name, value in EVENT.items() if name != "causationid"},
        "time": "1996-07-04T10:00:00.123000Z",
        "workflowid": "0198c0de-0000-7000-8000-000000000001",
    }


def test_a_time_as_text_is_brought_to_utc_and_a_missing_one_is_now() -> None:
    later = json.loads(encode_structured(EVENT | {"time": "2020-01-01T00:30:00+01:00"}))
    assert later["time"] == "2019-12-31T23:30:00Z"
    now = json.loads(encode_structured({name: EVENT[name] for name in EVENT if name != "time"}))
    assert abs(datetime.fromisoformat(now["time"]) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specversion": "0.3"}, "specversion of event '1' is '0.3'"),
        ({"id": ""}, "The id of the event is missing"),
        ({"source": None}, "source of event '1' is missing"),
        ({"type": 7}, "type of event '1' is missing or not a text"),
        ({"subject": None}, "subject of event '1' is missing"),
        ({"time": "1996-07-04T12:00:00"}, "has no zone"),
        ({"time": datetime(1996, 7, 4)}, "has no zone"),
        ({"time": "yesterday"}, "not an RFC 3339 time"),
        ({"time": "0001-01-01T00:00:00+23:00"}, "out of range"),
        ({"workflowid": "abc"}, "workflowid of event '1' is not a UUID: 'abc'"),
        ({"sequence": "3"}, "sequence of event '1' is not an integer"),
        ({"sequence": True}, "sequence of event '1' is not an integer"),
        ({"Tenant": "x"}, "'Tenant' of event '1' is not the name"),
        ({"tenantid": ["x"]}, "neither text, integer nor boolean"),
        ({"data_base64": "AA=="}, "both data and data_base64"),
        ({"data": {"x": float("nan")}}, "nan is not a number of JSON"),
        ({"data": [{"x": Decimal("Infinity")}]}, "Infinity is not a number of JSON"),
        ({"data": "\ud800"}, "cannot be written as JSON"),
        ({"data": object()}, "cannot be written as JSON"),
    ],
)
def test_what_is_not_an_event_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvelopeError, match=message):
        encode_structured(EVENT | change)


def binary(content_type: str, *more: tuple[str, bytes]) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", "/продажи".encode()),
        ("ce_sequence", b"12"),
        ("content-type", content_type.encode()),
        ("other", b"\xff"),
        *more,
    ]


def test_a_binary_record_becomes_the_structured_one_that_says_the_same() -> None:
    headers = binary("application/json")
    assert is_binary(headers)
    assert not is_binary([("content-type", b"application/cloudevents+json")])
    text = structured_from_binary(headers, b'{ "price": 14.000 }')
    assert b'{ "price": 14.000 }' in text
    assert json.loads(text) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/продажи",
        "sequence": 12,
        "datacontenttype": "application/json",
        "data": {"price": 14},
    }


@pytest.mark.parametrize(
    ("content_type", "value", "expected"),
    [
        ("application/vnd.order+json; charset=utf-8", b"[1]", {"data": [1]}),
        ("text/plain", "é".encode(), {"data": "é"}),
        ("application/octet-stream", b"\x00\xff", {"data_base64": "AP8="}),
        ("application/json", None, {}),
    ],
)
def test_data_of_other_types(content_type: str, value: bytes | None, expected: dict[str, Any]) -> None:
    found = json.loads(structured_from_binary(binary(content_type), value))
    assert {name: found[name] for name in found if name.startswith("data") and name != "datacontenttype"} == (
        expected
    )


@pytest.mark.parametrize(
    ("headers", "value", "message"),
    [
        (binary("application/json"), b'{"a":', "not application/json"),
        (binary("text/plain"), b"\xff", "not text/plain"),
        (binary("application/json", ("ce_type", b"\xff")), b"{}", "not UTF-8"),
    ],
)
def test_a_binary_record_that_contradicts_itself_is_refused(
    headers: list[tuple[str, bytes]], value: bytes, message: str
) -> None:
    with pytest.raises(EnvelopeError, match=message):
        structured_from_binary(headers, value)


def test_a_sequence_that_is_too_long_stays_a_text() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_sequence", b"9" * 5_000), ("ce_data", b"no")]
    assert json.loads(structured_from_binary(headers, None)) == {
        "specversion": "1.0",
        "sequence": "9" * 5_000,
    }
