"""Records that cannot be applied: each is a dead letter with its reason, its key waits, all else goes on."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, get_args

import confluent_kafka
import psycopg
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from mesh_core.log import Delivered, TopicPartition
from mesh_core.store.held import rows_at
from tests.engine.events import Fault, Said, as_json, encoded
from tests.support.mesh import Mesh, Outcomes

REASONS: dict[str, tuple[str, str]] = {
    "not_json": ("not_json", ""),
    "not_utf8": ("not_utf8", ""),
    "not_a_cloudevent": ("not_a_cloudevent", "specversion"),
    "missing_field": ("missing_field", "customer_id"),
    "wrong_type": ("wrong_type", "customer_id"),
    "huge_number": ("wrong_type", "customer_id"),
    "nul": ("nul_character", ""),
    "surrogate": ("surrogate", ""),
    "no_zone": ("zone_missing", "time"),
    "unknown_version": ("unknown_version", "v9"),
    "wrong_key": ("key_mismatch", "'another'"),
    "no_key": ("key_mismatch", "missing"),
    "null": ("null_payload", ""),
}
"""What each fault is called, and what its detail must name."""
OF_ANOTHER_KEY = {"wrong_key", "no_key"}

_numbers = iter(range(1, 1_000_000))


class Customer:
    """A customer of the test's own, and records about it."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.key = mesh, f"K{next(_numbers)}"

    def record(self, verb: str, fault: Fault | None = None, **data: Any) -> tuple[bytes | None, bytes | None]:
        said = Said("crm.events", self.key, f"crm.customer.{verb}.v1", {"customer_id": self.key} | data)
        return encoded(said, event_id=f"e{next(_numbers)}", second=1, fault=fault)

    def says(self, verb: str, fault: Fault | None = None, **data: Any) -> Delivered:
        key, value = self.record(verb, fault, **data)
        return self.mesh.send("crm.events", key, value)

    @property
    def row(self) -> dict[str, Any] | None:
        return self.mesh.rows("crm_customer").get(self.key)

    def held(self) -> list[tuple[str, str]]:
        """(status, reason) of what is held of this customer's records, by any entity, in order."""
        rows = [row for row in self.mesh.held() if row["record_key"] == self.key]
        found = dict.fromkeys((row["offset"], row["status"], row["reason"]) for row in rows)
        return [(status, reason) for _, status, reason in found]


@pytest.fixture
def changed(running_mesh: Mesh) -> Callable[[], Outcomes]:
    """What was counted since the test began."""
    before = running_mesh.outcomes()
    return lambda: Outcomes(*(now - then for now, then in zip(running_mesh.outcomes(), before, strict=True)))


def letter(mesh: Mesh, record: Delivered) -> dict[str, Any]:
    """The dead letter of a record, which every entity that refused it holds alike."""
    found, *others = [
        row
        for row in mesh.held("dead")
        if (row["topic"], row["partition"], row["offset"])
        == (record.partition.topic, record.partition.partition, record.offset)
    ]
    for other in others:
        assert {name for name in found if other[name] != found[name]} <= {"version_id", "held_at"}
    return found


@pytest.mark.parametrize("fault", [fault for fault in get_args(Fault) if fault != "unknown_type"])
def test_a_bad_record_is_a_dead_letter_with_its_reason(
    running_mesh: Mesh, changed: Callable[[], Outcomes], fault: Fault
) -> None:
    customer, other = Customer(running_mesh), Customer(running_mesh)
    customer.says("saved", name="before")
    bad = customer.says("saved", fault, name="bad")
    last = customer.says("renamed", name="after"), other.says("saved", name="fine")
    running_mesh.wait_applied(bad, *last)

    found = letter(running_mesh, bad)
    reason, named = REASONS[fault]
    assert found["reason"] == reason
    assert named in found["detail"]
    assert found["value"] == customer.record("saved", fault, name="bad")[1] or found["value"] is not None
    assert other.row is not None
    assert other.row["name"] == "fine"
    assert customer.row is not None
    if fault in OF_ANOTHER_KEY:
        assert customer.row["name"] == "after"
        assert changed() == Outcomes(consumed=4, applied=3, dead_lettered=1)
    else:
        assert customer.row["name"] == "before", "what comes after a dead letter of the key waits behind it"
        assert customer.held() == [("dead", reason), ("parked", "behind")]
        assert changed() == Outcomes(consumed=4, applied=2, dead_lettered=1, parked=1)
    running_mesh.assert_sound()


def test_an_unknown_type_is_ignored(running_mesh: Mesh, changed: Callable[[], Outcomes]) -> None:
    customer = Customer(running_mesh)
    running_mesh.wait_applied(customer.says("saved", "unknown_type", name="x"))
    assert changed() == Outcomes(consumed=1, ignored=1)
    assert customer.held() == []


def test_a_payload_of_two_megabytes(running_mesh: Mesh) -> None:
    customer = Customer(running_mesh)
    key, value = customer.record("saved", name="x" * 2_000_000)
    assert key is not None
    allow_large_records(running_mesh)
    sent = sent_by_others(running_mesh, key, value, [])
    running_mesh.wait_applied(sent)
    found = letter(running_mesh, sent)
    assert found["reason"] == "too_large"
    assert len(found["value"]) > 2_000_000, "it is kept whole"


def sent_by_others(
    mesh: Mesh, key: bytes, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> Delivered:
    """Send to crm.events what our own producer would not."""
    assert mesh.settings.kafka_bootstrap_servers is not None
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": mesh.settings.kafka_bootstrap_servers,
            "message.max.bytes": 5_000_000,
            "partitioner": "murmur2_random",
        }
    )
    found: list[Any] = []
    producer.produce(
        "crm.events", value, key, headers=headers, on_delivery=lambda *outcome: found.append(outcome)
    )
    producer.flush(20)
    ((error, message),) = found
    assert error is None, error
    return Delivered(TopicPartition("crm.events", message.partition()), message.offset())


def allow_large_records(mesh: Mesh) -> None:
    assert mesh.settings.kafka_bootstrap_servers is not None
    admin = AdminClient({"bootstrap.servers": mesh.settings.kafka_bootstrap_servers})
    entry = ConfigEntry("max.message.bytes", "5000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "crm.events", incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)


@pytest.mark.parametrize(
    ("data", "reason", "named"),
    [
        ({"points": 2**63, "spent": 1}, "out_of_range", "points"),
        ({"points": -(2**63) - 1, "spent": 1}, "out_of_range", "points"),
        ({"points": 1, "spent": Decimal("1e1001")}, "out_of_range", "digits"),
        ({"points": 1, "spent": Decimal("1." + "1" * 1001)}, "out_of_range", "digits"),
        ({"points": 1, "spent": "NaN"}, "out_of_range", "spent"),
        ({"points": 1.5, "spent": 1}, "wrong_type", "points"),
    ],
)
def test_numbers_beyond_what_postgres_holds(
    running_mesh: Mesh, data: dict[str, Any], reason: str, named: str
) -> None:
    customer = Customer(running_mesh)
    sent = customer.says("visited", **data, at="2026-01-01T00:00:00Z")
    running_mesh.wait_applied(sent)
    found = letter(running_mesh, sent)
    assert found["reason"] in (reason, "wrong_value")
    assert named in found["detail"]


def placed(number: int, *prices: str) -> bytes:
    items = [{"product_id": n, "quantity": 1, "unit_price": Decimal(price)} for n, price in enumerate(prices)]
    data = {"order_id": number, "customer_id": "A", "placed_at": "2026-01-01T00:00:00Z", "items": items}
    said = Said("sales.events", str(number), "sales.order.placed.v1", data)
    value = encoded(said, event_id=f"o{next(_numbers)}", second=1)[1]
    assert value is not None
    return value


def sold(number: int, verb: str, **data: Any) -> tuple[str, bytes, bytes]:
    said = Said("sales.events", str(number), f"sales.order.{verb}.v1", {"order_id": number} | data)
    key, value = encoded(said, event_id=f"o{next(_numbers)}", second=1)
    assert key is not None
    assert value is not None
    return "sales.events", key, value


@pytest.mark.parametrize("price", ["1.234", "1000000.00"])
def test_a_decimal_that_does_not_fit_one_entity_is_refused_by_it_alone(
    running_mesh: Mesh, changed: Callable[[], Outcomes], price: str
) -> None:
    number = next(_numbers)
    bad = running_mesh.send("sales.events", str(number).encode(), placed(number, "1.00", price))
    note = running_mesh.send(*sold(number, "noted", note="kept"))
    priced = running_mesh.send(*sold(number, "item_priced", product_id=0, unit_price=Decimal("2.00")))
    running_mesh.wait_applied(bad, note, priced)
    assert letter(running_mesh, bad)["reason"] == "does_not_fit"
    assert "unit_price" in letter(running_mesh, bad)["detail"]
    assert running_mesh.rows("sales_order")[number]["note"] == "kept", "the order itself is none the worse"
    assert not [key for key in running_mesh.rows("sales_line") if key[0] == number]
    assert changed() == Outcomes(consumed=3, applied=1, dead_lettered=1, parked=1)

    running_mesh.decide(bad, "edit", placed(number, "1.00", "1.25"))
    running_mesh.wait_caught_up()
    lines = running_mesh.rows("sales_line")
    assert [lines[number, n]["unit_price"] for n in (0, 1)] == [Decimal("2.00"), Decimal("1.25")]
    assert changed() == Outcomes(consumed=4, applied=4), "the decision is an event too"
    running_mesh.assert_sound()


def test_a_decision_releases_what_waits_in_order(running_mesh: Mesh, changed: Callable[[], Outcomes]) -> None:
    customer = Customer(running_mesh)
    bad = customer.says("saved", "missing_field", name="bad")
    customer.says("renamed", name="first")
    second = customer.says("saved", "wrong_type", name="bad too")
    last = customer.says("renamed", name="last")
    running_mesh.wait_applied(last)
    assert [status for status, _ in customer.held()] == ["dead", "parked", "dead", "parked"]

    running_mesh.decide(bad, "retry")
    running_mesh.wait_caught_up()
    assert [status for status, _ in customer.held()] == ["dead", "parked", "dead", "parked"], "still refused"
    assert letter(running_mesh, bad)["attempts"] == 2

    running_mesh.decide(bad, "edit", customer.record("saved", name="mended")[1])
    running_mesh.wait_caught_up()
    assert customer.row is not None
    assert customer.row["name"] == "first", "what waited behind the first runs up to the second"
    assert [status for status, _ in customer.held()] == ["dead", "parked"]

    running_mesh.decide(second, "discard")
    running_mesh.wait_caught_up()
    assert customer.row is not None
    assert customer.row["name"] == "last"
    assert customer.held() == []
    assert changed() == Outcomes(consumed=7, applied=6, ignored=1)
    running_mesh.assert_sound()


def test_a_delete_supersedes_all_that_waits(running_mesh: Mesh, changed: Callable[[], Outcomes]) -> None:
    customer = Customer(running_mesh)
    customer.says("saved", name="before")
    customer.says("saved", "nul", name="bad")
    customer.says("renamed", name="parked")
    running_mesh.wait_applied(customer.says("removed"))
    assert customer.held() == []
    assert customer.row is None
    running_mesh.wait_applied(customer.says("saved", name="anew"))
    assert customer.row is not None
    assert customer.row["name"] == "anew"
    assert changed() == Outcomes(consumed=5, applied=3, dead_lettered=1, parked=1)
    running_mesh.assert_sound()


def listed(number: int, name: str, fault: Fault | None = None) -> tuple[str, bytes | None, bytes | None]:
    said = Said("stock.events", str(number), "stock.product.listed.v1", {"product_id": number, "name": name})
    return "stock.events", *encoded(said, event_id=f"p{next(_numbers)}", second=1, fault=fault)


def test_an_event_that_says_all_supersedes_what_waits(running_mesh: Mesh) -> None:
    number = next(_numbers)
    bad = running_mesh.send(*listed(number, "bad", "surrogate"))
    running_mesh.wait_applied(bad)
    assert letter(running_mesh, bad)
    said = Said("stock.events", str(number), "stock.product.priced.v1", {"product_id": number, "price": 1})
    running_mesh.send("stock.events", *encoded(said, event_id=f"p{next(_numbers)}", second=1))
    said = Said(
        "stock.events",
        str(number),
        "stock.product.listed.v1",
        {"product_id": number, "name": "whole", "price": 2},
    )
    last = running_mesh.send("stock.events", *encoded(said, event_id=f"p{next(_numbers)}", second=1))
    running_mesh.wait_applied(last)
    assert not [row for row in running_mesh.held() if row["record_key"] == str(number)]
    assert running_mesh.rows("stock_product")[number] == {
        "product_id": number,
        "name": "whole",
        "price": Decimal(2),
    }


def test_a_tombstone_deletes_where_the_entity_takes_it(
    running_mesh: Mesh, changed: Callable[[], Outcomes]
) -> None:
    number = next(_numbers)
    running_mesh.wait_applied(running_mesh.send(*listed(number, "Tea")))
    assert number in running_mesh.rows("product_sales")
    gone = running_mesh.send("stock.events", str(number).encode(), None)
    again = running_mesh.send("stock.events", str(number).encode(), None)
    no_key_of_it = running_mesh.send("stock.events", b"tea", None)
    running_mesh.wait_applied(gone, again, no_key_of_it)
    assert number not in running_mesh.rows("stock_product")
    assert number not in running_mesh.rows("product_sales")
    assert letter(running_mesh, no_key_of_it)["reason"] == "key_mismatch"
    assert changed() == Outcomes(consumed=4, applied=2, ignored=1, dead_lettered=1)
    running_mesh.assert_sound()


def test_a_decision_may_come_before_its_record(running_mesh: Mesh, changed: Callable[[], Outcomes]) -> None:
    customer = Customer(running_mesh)
    first = customer.says("saved", name="before")
    running_mesh.wait_applied(first)
    running_mesh.decide(Delivered(first.partition, first.offset + 1), "discard")
    running_mesh.wait_caught_up()
    bad = customer.says("saved", "no_zone", name="bad")
    assert bad == Delivered(first.partition, first.offset + 1)
    running_mesh.wait_applied(bad, customer.says("renamed", name="after"))
    assert customer.held() == []
    assert customer.row is not None
    assert customer.row["name"] == "after"
    assert changed() == Outcomes(consumed=4, applied=3, ignored=1)


def test_a_decision_on_what_is_no_dead_letter_does_nothing(
    running_mesh: Mesh, changed: Callable[[], Outcomes]
) -> None:
    customer = Customer(running_mesh)
    fine = customer.says("saved", name="fine")
    running_mesh.wait_applied(fine)
    running_mesh.decide(fine, "edit", customer.record("saved", name="other")[1])
    running_mesh.wait_caught_up()
    assert customer.row is not None
    assert customer.row["name"] == "fine"
    assert changed() == Outcomes(consumed=2, applied=2)


def binary(customer: Customer, **headers: bytes) -> list[tuple[str, bytes]]:
    attributes = {
        "specversion": b"1.0",
        "id": b"binary",
        "source": b"/elsewhere",
        "type": b"crm.customer.saved.v1",
        "subject": customer.key.encode(),
        "time": b"2026-01-01T00:00:00Z",
    } | headers
    return [
        ("content-type", b"application/json"),
        *((f"ce_{name}", value) for name, value in attributes.items()),
    ]


def test_binary_cloudevents_are_taken(running_mesh: Mesh, changed: Callable[[], Outcomes]) -> None:
    customer = Customer(running_mesh)
    data = as_json({"customer_id": customer.key, "name": "Ada"}).encode()
    headers = binary(customer)
    running_mesh.wait_applied(running_mesh.send("crm.events", customer.key.encode(), data, headers=headers))
    assert customer.row is not None
    assert customer.row["name"] == "Ada"
    assert changed() == Outcomes(consumed=1, applied=1)


@pytest.mark.parametrize(
    ("headers", "data"),
    [({"source": b"\xff"}, b"{}"), ({}, b"no json"), ({}, b"\xff"), ({}, None), ({"time": b"soon"}, b"{}")],
)
def test_bad_binary_cloudevents_are_dead_letters(
    running_mesh: Mesh, headers: dict[str, bytes], data: bytes | None
) -> None:
    customer = Customer(running_mesh)
    sent = running_mesh.send("crm.events", customer.key.encode(), data, headers=binary(customer, **headers))
    running_mesh.wait_applied(sent)
    found = letter(running_mesh, sent)
    assert found["detail"]
    assert found["value"] == data


@pytest.mark.parametrize("key", [b"a\0b", b"\xff\xfe", b"x" * 600])
def test_keys_that_are_no_text_or_too_long(running_mesh: Mesh, key: bytes) -> None:
    customer = Customer(running_mesh)
    sent = running_mesh.send("crm.events", key, customer.record("saved", name="x")[1])
    running_mesh.wait_applied(sent)
    assert letter(running_mesh, sent)["reason"] in ("key_mismatch", "key_too_long")
    assert bytes(letter(running_mesh, sent)["key"]) == key


def test_what_only_postgres_refuses_is_found_by_halving(
    running_mesh: Mesh, changed: Callable[[], Outcomes]
) -> None:
    running_mesh.execute("ALTER TABLE data.crm_customer__1 ADD CHECK (city <> 'Atlantis')")
    customers = [Customer(running_mesh) for _ in range(40)]
    records = [
        customer.record("saved", name="x", city="Atlantis" if n in (7, 23) else "Rome")
        for n, customer in enumerate(customers)
    ]
    futures = [running_mesh.producer.send("crm.events", key, value) for key, value in records]
    running_mesh.producer.flush(10)
    sent = [future.result() for future in futures]
    running_mesh.wait_applied(*sent)
    for n, customer in enumerate(customers):
        assert (customer.row is None) == (n in (7, 23))
    found = letter(running_mesh, sent[7])
    assert found["reason"] == "refused_by_postgres"
    assert "23514" in found["detail"]
    assert "crm_customer" in found["detail"]
    assert changed() == Outcomes(consumed=40, applied=38, dead_lettered=2)
    running_mesh.execute("ALTER TABLE data.crm_customer__1 DROP CONSTRAINT crm_customer__1_city_check")
    running_mesh.decide(sent[7], "retry")
    running_mesh.wait_caught_up()
    assert customers[7].row is not None
    running_mesh.assert_sound()


def test_a_dead_letter_keeps_the_whole_record(running_mesh: Mesh) -> None:
    customer = Customer(running_mesh)
    headers = [("odd", b"\xff\0\\x00"), ("odd", b"2"), ("h\u00fb\0", b"")]
    sent = running_mesh.send("crm.events", customer.key.encode(), b"{", headers=headers)
    running_mesh.wait_applied(sent)
    with psycopg.connect(running_mesh.database_url) as connection:
        kept, _ = rows_at(connection, (sent.partition, sent.offset))
    assert (kept.record.key, kept.record.value) == (customer.key.encode(), b"{")
    assert list(kept.record.headers) == headers


def test_a_header_without_a_value(running_mesh: Mesh) -> None:
    customer = Customer(running_mesh)
    key = customer.key.encode()
    bad = sent_by_others(running_mesh, key, b"{", [("empty", None)])
    event = sent_by_others(running_mesh, key, b"{}", [*binary(customer), ("ce_tenantid", None)])
    running_mesh.wait_applied(bad, event)
    assert letter(running_mesh, bad)["headers"] == [["empty", None]]
    assert letter(running_mesh, event)["reason"] == "not_a_cloudevent"
