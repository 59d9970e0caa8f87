"""Records of foreign topics: what they are as events, and why some are none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from mesh_core.contracts.translating import Foreign, Translated, record_key, translate
from mesh_core.model import DeclarationError, Event, ForeignTopic, json_topic, outbox_topic, row_changes
from mesh_core.model.event import Contract

SAVED, GONE = "legacy.order.saved.v1", "legacy.order.gone.v1"
ORDERS = json_topic(
    "legacy.orders",
    type="kind",
    types={"new": SAVED},
    key="order.id",
    data="order",
    time="at",
    id="header:message-id",
    workflow="flow",
    sequence="order.version",
)
ROWS = row_changes(
    "db.public.orders",
    saved=SAVED,
    deleted=GONE,
    key=["id", "line"],
    units={"placed_at": "us", "day": "days"},
)
OUTBOX = outbox_topic("outbox.event.order")
WRITTEN = 1_700_000_000_123


def record(value: Any, key: Any = b"k", **headers: str) -> Foreign:
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    named = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
    return Foreign(key, raw, named, 3, 7, WRITTEN)


def event(topic: ForeignTopic, made: Foreign) -> dict[str, Any]:
    found = translate(topic, made)
    assert found.value is not None, found
    told: dict[str, Any] = msgspec.json.Decoder(float_hook=Decimal).decode(found.value)
    assert told.pop("specversion") == "1.0"
    assert (found.key or b"").decode() == told["subject"]
    return told


ORDER = {"kind": "new", "at": "2026-01-05T09:00:00Z", "order": {"id": 42, "total": 1}, "flow": "f"}


def test_plain_json_is_read_where_it_is_declared() -> None:
    value = json.dumps(ORDER).replace('"total": 1', '"total": 1.10, "version": 5').encode()
    assert event(ORDERS, record(value, message_id="m1")) == {
        "id": "m1", "source": "/legacy.orders", "type": SAVED, "subject": "42", "time": "2026-01-05T09:00:00Z",
        "workflowid": "f", "sequence": 5, "data": {"id": 42, "total": Decimal("1.10"), "version": 5},
    }  # fmt: skip


def test_what_is_not_declared_is_of_the_record() -> None:
    one = json_topic("clicks", types="web.click.made.v1")
    assert event(one, record({"x": 1}, b'"a b"')) == {
        "id": "clicks/3/7", "source": "/clicks", "type": "web.click.made.v1", "subject": "a b",
        "time": "2023-11-14T22:13:20.123000Z", "data": {"x": 1},
    }  # fmt: skip
    said = json_topic("clicks", type="header:type", time="at", units={"time": "s"}, key=("a", "b"))
    told = event(said, record({"a": "x,y", "b": 2, "at": 1.5}, type="web.click.made.v2"))
    assert (told["type"], told["subject"], told["time"]) == (
        "web.click.made.v2",
        "x%2Cy,2",
        "1970-01-01T00:00:01.500000Z",
    )


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(("op", "kind"), [("c", SAVED), ("r", SAVED), ("u", SAVED), ("d", GONE)])
def test_changes_of_rows_are_events(op: str, kind: str, wrapped: bool) -> None:
    row = {"id": 1, "line": "a", "placed_at": 1_767_603_600_000_000, "day": 20_458, "note": None}
    change = {
        "op": op, "before": row if op == "d" else None, "after": None if op == "d" else row,
        "source": {"ts_ms": 1_767_603_600_000, "table": "orders"}, "ts_ms": 1_767_603_700_000,
    }  # fmt: skip
    told = event(
        ROWS, record({"schema": {}, "payload": change} if wrapped else change, b'{"id": 1, "line": "a"}')
    )
    assert told == {
        "id": "db.public.orders/3/7", "source": "/db.public.orders", "type": kind, "subject": "1,a",
        "time": "2026-01-05T09:00:00Z",
        "data": row | {"placed_at": "2026-01-05T09:00:00Z", "day": "2026-01-05"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [None, b"null", {"schema": None, "payload": None}, {"op": "m", "message": {}}]
)
def test_what_says_nothing_of_a_row_is_passed_over(value: Any) -> None:
    found = translate(ROWS, record(value, b'{"schema": {}, "payload": {"id": 1, "line": "a"}}'))
    assert found == Translated(b"1,a", None)
    assert translate(
        row_changes("t", saved=SAVED, key="id"), record({"op": "d", "before": {"id": 1}})
    ) == Translated(b"k", None)


def test_a_type_that_is_not_named_is_passed_over_before_anything_is_asked_of_it() -> None:
    assert translate(ORDERS, record({"kind": "heartbeat"})) == Translated(b"k", None)


@pytest.mark.parametrize("payload", [{"total": 2}, json.dumps({"total": 2})])
def test_the_outbox_router_is_understood(payload: Any) -> None:
    told = event(OUTBOX, record(payload, b'"42"', id='"u1"', eventType="shop.order.placed.v1"))
    assert told == {
        "id": "u1", "source": "/outbox.event.order", "type": "shop.order.placed.v1", "subject": "42",
        "time": "2023-11-14T22:13:20.123000Z", "data": {"total": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "made", "reason", "said"),
    [
        (ORDERS, record(b"{"), "not_json", ""),
        (ORDERS, record(b"\xff"), "not_json", ""),
        (ORDERS, record(b'"\xff"'), "not_utf8", ""),
        (ORDERS, record(b"[" * 300), "too_deep", ""),
        (ORDERS, record(b'"' + b"x" * 2**20 + b'"'), "too_large", ""),
        (ORDERS, record([]), "missing_field", "nothing at kind, where legacy.orders has the type"),
        (ORDERS, record(ORDER | {"kind": {}}), "wrong_type", "kind is neither text nor whole number"),
        (ORDERS, record(ORDER | {"order": None}, message_id="m"), "missing_field", "nothing at order"),
        (
            ORDERS,
            record(ORDER | {"order": {}}, message_id="m"),
            "missing_field",
            "order.id, where legacy.orders has the key",
        ),
        (ORDERS, record(ORDER), "missing_field", "header:message-id"),
        (
            ORDERS,
            record({k: v for k, v in ORDER.items() if k != "at"}, message_id="m"),
            "missing_field",
            "nothing at at",
        ),
        (ORDERS, record(ORDER | {"at": True}, message_id="m"), "wrong_type", "at is no time"),
        (ORDERS, record(ORDER | {"at": 10**18}, message_id="m"), "out_of_range", "years 1 to 9999"),
        (json_topic("t", types=SAVED), record({}, None), "missing_field", "no key"),
        (ROWS, record({"after": {}}), "wrong_type", "its `op` is no text"),
        (ROWS, record({"op": []}), "wrong_type", "is no text"),
        (ROWS, record(b'{"op":"c","after":{"id":1,"line":"a","day":1e999999999}}'), "out_of_range", "day"),
        (ROWS, record({"op": "t"}), "wrong_value", "truncated"),
        (ROWS, record({"op": "d", "before": None}), "missing_field", "replica identity"),
        (ROWS, record({"op": "c", "after": {"id": 1, "line": None}}), "missing_field", "line"),
        (ROWS, record({"op": "c", "after": {"id": 1, "line": "a", "day": 10**9}}), "out_of_range", "day"),
    ],
)
def test_what_cannot_be_read_says_where(topic: ForeignTopic, made: Foreign, reason: str, said: str) -> None:
    found = translate(topic, made).refusal
    assert found is not None
    assert (found.reason, said in found.detail) == (reason, True), found


def test_what_is_refused_has_its_key_all_the_same() -> None:
    found = translate(ORDERS, record(ORDER, b"another"))
    assert (found.key, found.refusal is not None) == (b"42", True), "the id is missing, not the key"
    assert translate(ORDERS, record(b"{", b'"a"')).key == b"a"


@pytest.mark.parametrize(
    ("key", "canonical"),
    [
        (None, None), (b"abc", b"abc"), (b'"abc"', b"abc"), (b"42", b"42"), (b'{"id": 42}', b"42"),
        (b'{"schema": {"type": "string"}, "payload": "x"}', b"x"), (b"007", b"007"), (b"true", b"true"),
        (b"7e12345678901234567890", b"7e12345678901234567890"),
        (b'{"a": 1, "b": 2}', b'{"a": 1, "b": 2}'), (b"\xff", b"\xff"), (b"1.50", b"1.50"),
    ],
)  # fmt: skip
def test_keys_are_the_text_that_they_mean(key: bytes | None, canonical: bytes | None) -> None:
    assert record_key(OUTBOX, key) == canonical
    assert record_key(ROWS, b'{"id": 1, "line": "a"}') == b"1,a"


def test_declarations_are_plain_data_and_checked() -> None:
    for topic in (ORDERS, ROWS, OUTBOX):
        assert ForeignTopic.from_json(json.loads(json.dumps(topic.to_json()))) == topic

    class Saved(Event, type=SAVED, topic=ORDERS):
        id: int

    assert Contract.from_json(Saved.contract.to_json()).foreign == ORDERS
    assert (Saved.topic, Saved.contract.topic) == ("legacy.orders", "legacy.orders")
    with pytest.raises(
        DeclarationError, match=r"no record of legacy\.orders is an event legacy\.order\.gone\.v1"
    ):

        class Gone(Event, type=GONE, topic=ORDERS):
            id: int

    for wrong in (
        lambda: json_topic("a b", types=SAVED),
        lambda: json_topic("a"),
        lambda: json_topic("a", types=SAVED, type="kind"),
        lambda: row_changes("a", saved=SAVED, key=()),
        lambda: row_changes("a", saved=SAVED, key="id", units={"x": "weeks"}),  # type: ignore[dict-item]
    ):
        with pytest.raises(DeclarationError):
            wrong()
