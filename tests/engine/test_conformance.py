"""CloudEvents 1.0.2 on Kafka: forms that its Kafka binding and its JSON format show, and the official SDK as an outsider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import kafka as official
from cloudevents.core.bindings.kafka import KafkaMessage
from cloudevents.core.v1.event import CloudEvent

from mesh_core.emit import Publisher
from mesh_core.log import Headers, TopicPartition
from mesh_core.settings import Settings
from tests.engine.domain import CATALOG, CustomerSaved
from tests.support.mesh import Mesh

ATTRIBUTES = {
    "specversion": "1.0", "type": "crm.customer.saved.v1", "source": "/mycontext/subcontext", "id": "1234-1234-1234",
    "time": "2018-04-05T03:56:24Z", "subject": "c1",
}  # fmt: skip
DATA = {"customer_id": "c1", "name": "Ann"}
STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")


def binary(content_type: str | None = "application/json", **changes: str | None) -> list[tuple[str, bytes]]:
    named = [
        (f"ce_{name}", text.encode()) for name, text in (ATTRIBUTES | changes).items() if text is not None
    ]
    return [*named, *([("content-type", content_type.encode())] if content_type else [])]


def structured(**changes: Any) -> bytes:
    made = ATTRIBUTES | {"datacontenttype": "application/json", "data": DATA} | changes
    return json.dumps({name: value for name, value in made.items() if value is not ...}).encode()


PLAIN = json.dumps(DATA).encode()
Case = tuple[list[tuple[str, bytes]], bytes | None, str | None]
CASES: dict[str, Case] = {
    # What the Kafka binding shows, with a type of the mesh; None: it is taken.
    "binary": (binary(), PLAIN, None),
    "binary, with a charset": (binary("application/json; charset=utf-8"), PLAIN, None),
    "binary, of a type that is JSON by its suffix": (binary("application/vnd.crm+json"), PLAIN, None),
    "binary, without a content type": (binary(None), PLAIN, None),
    "binary, with an extension": (binary(comexampleextension1="value"), PLAIN, None),
    "binary, with headers of others": ([*binary(), ("traceparent", b"x"), ("other", b"\xff")], PLAIN, None),
    "binary, with a time at an offset": (binary(time="2018-04-05T05:56:24.123456+02:00"), PLAIN, None),
    "binary, with attributes in another script": (binary(source="/\u20ac/\U0001f600"), PLAIN, None),
    "structured": ([STRUCTURED], structured(), None),
    "structured, by a header without a charset": (
        [("content-type", b"application/cloudevents+json")], structured(), None,
    ),
    "structured, with attributes as headers besides": ([STRUCTURED, *binary(None)], structured(), None),
    "structured, without a header": ([], structured(), None),
    "structured, with an extension": ([STRUCTURED], structured(comexampleextension1="value"), None),
    "structured, with an attribute that is null": ([STRUCTURED], structured(dataschema=None), None),
    # What it forbids, or what a mesh cannot take.
    "binary, without an id": (binary(id=None), PLAIN, "missing_field"),
    "binary, without a source": (binary(source=None), PLAIN, "missing_field"),
    "binary, without a type": (binary(type=None), PLAIN, "missing_field"),
    "binary, with an empty id": (binary(id=""), PLAIN, "out_of_range"),
    "binary, of another version": (binary(specversion="0.3"), PLAIN, "not_a_cloudevent"),
    "binary, with a time that is none": (binary(time="yesterday"), PLAIN, "wrong_value"),
    "binary, with a time without a zone": (binary(time="2018-04-05T03:56:24"), PLAIN, "zone_missing"),
    "binary, with an attribute that is not UTF-8": ([*binary(), ("ce_note", b"\xff")], PLAIN, "not_a_cloudevent"),
    "binary, with data that is not what it says": (binary(), b"{", "not_a_cloudevent"),
    "binary, with Avro": (binary("application/avro"), b"\x02Ann", "missing_field"),
    "binary, without data": (binary(), None, "null_payload"),
    "structured, without an id": ([STRUCTURED], structured(id=...), "missing_field"),
    "structured, of another version": ([STRUCTURED], structured(specversion="2.0"), "not_a_cloudevent"),
    "structured, without data": ([STRUCTURED], structured(data=...), "missing_field"),
    "structured, that is no JSON": ([STRUCTURED], b"<event/>", "not_json"),
    "a batch, which Kafka does not have": (
        [("content-type", b"application/cloudevents-batch+json")], b"[" + structured() + b"]", "not_a_cloudevent",
    ),
}  # fmt: skip


@pytest.fixture
def mesh(settings: Settings) -> Iterator[Mesh]:
    made = Mesh(settings, CATALOG, partitions=1)
    made.deploy()
    yield made
    made.close()


def test_each_form_is_taken_or_refused(mesh: Mesh) -> None:
    """One after the other, so that whole-state events pass what is parked before them."""
    places = {}
    for name, (headers, value, _) in CASES.items():
        places[mesh.send("crm.events", b"c1", value, headers=headers).offset] = name
    mesh.project()
    refused = {places[held["offset"]]: held["reason"] for held in mesh.held("dead")}
    # A whole-state event lets go of what waits before it, so of each form that is refused only those after the last are kept.
    last = max(offset for offset, name in places.items() if CASES[name][2] is None)
    after = {name for offset, name in places.items() if offset > last}
    expected = {name: reason for name, (_, _, reason) in CASES.items() if reason is not None}
    assert after == set(expected), "the refused ones are sent last"
    assert refused == expected
    taken = sum(reason is None for _, _, reason in CASES.values())
    outcomes = mesh.outcomes("crm.events")
    assert (outcomes.applied, outcomes.dead_lettered, outcomes.parked) == (taken, len(expected), 0)
    mesh.assert_sound()


def sdk_event(number: int) -> CloudEvent:
    return CloudEvent(
        {
            "type": "crm.customer.saved.v1", "source": "/outside", "id": f"sdk-{number}", "subject": f"s{number}",
            "time": datetime(2026, 1, 31, 12, tzinfo=UTC), "datacontenttype": "application/json",
        },
        {"customer_id": f"s{number}", "name": "Änne"},
    )  # fmt: skip


@pytest.mark.parametrize("write", [official.to_binary_event, official.to_structured_event])
def test_what_the_official_sdk_writes_is_projected(mesh: Mesh, write: Callable[..., KafkaMessage]) -> None:
    made = write(sdk_event(1), key_mapper=lambda event: event.get_subject())
    key = made.key.encode() if isinstance(made.key, str) else made.key
    mesh.send("crm.events", key, made.value, headers=[(name, value) for name, value in made.headers.items()])
    mesh.project()
    assert mesh.rows("crm_customer")["s1"]["name"] == "Änne"
    assert mesh.held() == []


@pytest.mark.parametrize("in_binary", [False, True])
def test_the_official_sdk_reads_what_is_published(mesh: Mesh, in_binary: bool) -> None:
    saved = CustomerSaved(customer_id="p1", name="Änne", tags={"exact": [1, 2.5]})
    with Publisher(mesh.driver, "/mesh", binary=in_binary) as publisher:
        publisher.publish(saved, key="p1", id="one", time=datetime(2026, 1, 31, 12, tzinfo=UTC), sequence=3)
    with mesh.driver.consumer() as consumer:
        consumer.assign({TopicPartition("crm.events", 0): 0})
        chunks: list[Any] = []
        while not chunks:
            chunks = consumer.poll(10, 1.0)
    headers: Headers = chunks[0].headers[0]
    read = official.from_kafka_event(KafkaMessage(dict(headers), chunks[0].keys[0], chunks[0].values[0]))
    assert (read.get_id(), read.get_source(), read.get_type()) == ("one", "/mesh", "crm.customer.saved.v1")
    assert (read.get_subject(), read.get_time()) == ("p1", datetime(2026, 1, 31, 12, tzinfo=UTC))
    assert int(read.get_extension("sequence")) == 3
    assert read.get_data() == {"customer_id": "p1", "name": "Änne", "city": None, "tags": {"exact": [1, 2.5]}}
    mesh.project()
    assert mesh.rows("crm_customer")["p1"]["name"] == "Änne"
