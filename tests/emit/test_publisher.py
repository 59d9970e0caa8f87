from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from mesh_core.emit import Publisher
from mesh_core.emit.outbox import add_event
from mesh_core.errors import UsageError
from mesh_core.log import (
    Chunk,
    Driver,
    EnvelopeError,
    KafkaConfig,
    LogUnavailable,
    MessageTooLarge,
    Position,
    TopicMissing,
    TopicPartition,
    connect,
)
from mesh_core.log.cloudevents import STRUCTURED_HEADERS
from mesh_core.model import Event, Part

WORKFLOW = UUID("0198c0de-0000-7000-8000-000000000001")


class Item(Part):
    product_id: int
    unit_price: Decimal


class OrderPlaced(Event, type="publishing.order.placed.v1"):
    order_id: int
    placed_at: datetime
    items: list[Item]
    note: str | None = None


class PricePosted(Event, type="publishing.price.posted.v1"):
    key_fields = ("product", "country")

    product: str
    country: str
    price: Decimal


class Nowhere(Event, type="nowhere.order.placed.v1"):
    order_id: int


AT = datetime(2020, 5, 17, 8, 30, 0, 250_000, UTC)
ORDER = OrderPlaced(order_id=1, placed_at=AT, items=[Item(product_id=7, unit_price=Decimal("14.000"))])
TOPIC = OrderPlaced.topic


@pytest.fixture
def driver(clean_kafka: str) -> Driver:
    driver = connect(KafkaConfig(clean_kafka))
    with driver.admin() as admin:
        admin.create_topic(TOPIC, 2)
    return driver


@pytest.fixture
def publisher(driver: Driver) -> Iterator[Publisher]:
    with Publisher(driver, "/publishing") as publisher:
        yield publisher


def published(driver: Driver, end: Position) -> Chunk:
    """The records below a position that is in one partition."""
    (part,) = end.offsets
    with driver.consumer() as consumer:
        consumer.assign({part: 0})
        while not (chunks := consumer.poll(100, 10)):
            pass
    assert chunks[0].next_offset == end.offsets[part]
    return chunks[0]


def test_an_event_is_a_structured_cloudevent_under_its_key(driver: Driver, publisher: Publisher) -> None:
    publisher.publish(
        ORDER,
        key="1",
        workflow_id=WORKFLOW,
        correlation_id="request-9",
        causation_id="event-8",
        tenant_id="acme",
        time=AT,
        sequence=4,
        id="event-9",
    )
    chunk = published(driver, publisher.flush())
    assert chunk.keys == [b"1"]
    assert chunk.timestamps == [1_589_704_200_250]
    assert list(chunk.headers[0]) == list(STRUCTURED_HEADERS)
    assert chunk.values[0] is not None
    assert b'"unit_price":14.000' in chunk.values[0]
    assert json.loads(chunk.values[0]) == {
        "specversion": "1.0",
        "id": "event-9",
        "source": "/publishing",
        "type": "publishing.order.placed.v1",
        "subject": "1",
        "time": "2020-05-17T08:30:00.250000Z",
        "datacontenttype": "application/json",
        "workflowid": str(WORKFLOW),
        "correlationid": "request-9",
        "causationid": "event-8",
        "tenantid": "acme",
        "sequence": 4,
        "data": {
            "order_id": 1,
            "placed_at": "2020-05-17T08:30:00.250000Z",
            "items": [{"product_id": 7, "unit_price": 14.0}],
            "note": None,
        },
    }


def test_ids_rise_with_time_and_begin_their_own_correlation(driver: Driver, publisher: Publisher) -> None:
    for _ in range(3):
        publisher.publish(ORDER, key="1")
    events = [json.loads(value or b"") for value in published(driver, publisher.flush()).values]
    assert [UUID(event["id"]).version for event in events] == [7, 7, 7]
    assert all(event["correlationid"] == event["id"] for event in events)
    assert all("workflowid" not in event and "sequence" not in event for event in events)


def test_a_key_of_several_fields_is_joined(driver: Driver, publisher: Publisher) -> None:
    publisher.publish(PricePosted(product="a,b/c", country="ÖS", price=Decimal("1.10")))
    chunk = published(driver, publisher.flush())
    assert chunk.keys == [b"a%2Cb%2Fc,%C3%96S"]
    assert json.loads(chunk.values[0] or b"")["subject"] == "a%2Cb%2Fc,%C3%96S"


def test_the_current_trace_goes_along(driver: Driver, publisher: Publisher) -> None:
    span = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    with use_span(NonRecordingSpan(span)):
        publisher.publish(ORDER, key="1")
    event = json.loads(published(driver, publisher.flush()).values[0] or b"")
    assert event["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"


def test_flush_answers_the_position_after_each_batch(publisher: Publisher) -> None:
    sent = [publisher.publish(ORDER, key=str(number)) for number in range(50)]
    first = publisher.flush()
    delivered = [future.result(0) for future in sent]
    assert first == Position.after((record.partition, record.offset) for record in delivered)
    assert len(first.offsets) == 2
    assert publisher.flush() == Position()
    record = publisher.publish(ORDER, key="1").result(10)
    assert publisher.flush() == Position({record.partition: record.offset + 1})


def test_a_ready_event_is_published_as_it_is(driver: Driver, publisher: Publisher) -> None:
    event = {
        "specversion": "1.0",
        "id": "x-1",
        "source": "/elsewhere",
        "type": "publishing.order.placed.v1",
        "subject": "10248",
        "time": "2020-05-17T10:30:00.25+02:00",
        "region": "north",
        "data": {"order_id": 10248},
    }
    publisher.publish_envelope(event)
    chunk = published(driver, publisher.flush())
    assert chunk.keys == [b"10248"]
    assert chunk.timestamps == [1_589_704_200_250]
    assert json.loads(chunk.values[0] or b"") == event | {"time": "2020-05-17T08:30:00.250000Z"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": "x" * 513}, "513 bytes; a key has at most 512"),
        ({"subject": "\ud800"}, "lone surrogate"),
        ({"type": "Placed!"}, "does not begin with the name of a service"),
        ({"time": "2020-05-17T08:30:00"}, "no zone"),
    ],
)
def test_a_ready_event_that_is_wrong_is_refused(
    publisher: Publisher, change: dict[str, str], message: str
) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "publishing.a.b.v1", "subject": "1"}
    with pytest.raises(EnvelopeError, match=message):
        publisher.publish_envelope(event | change)


def test_an_event_needs_a_key_and_a_zone(publisher: Publisher) -> None:
    with pytest.raises(EnvelopeError, match=r"OrderPlaced needs a key\. Give key=…"):
        publisher.publish(ORDER)
    with pytest.raises(EnvelopeError, match="which is 'tea,NO' by key_fields"):
        publisher.publish(PricePosted(product="tea", country="NO", price=Decimal(1)), key="tea")
    with pytest.raises(EnvelopeError, match="no zone"):
        publisher.publish(ORDER, key="1", time=datetime(2020, 1, 1))
    with pytest.raises(MessageTooLarge, match="the limit is 1,000,000"):
        publisher.publish(ORDER.model_copy(update={"note": "x" * 1_000_000}), key="1")


def test_leaving_the_block_means_that_all_is_in_the_log(driver: Driver) -> None:
    with Publisher(driver, "/publishing") as publisher:
        sent = [publisher.publish(ORDER, key="1") for _ in range(100)]
    assert all(future.done() and future.exception() is None for future in sent)


def test_a_failure_is_raised_at_the_end_of_the_block(driver: Driver) -> None:
    def publish() -> None:
        with Publisher(driver, "/nowhere") as publisher:
            publisher.publish(Nowhere(order_id=1), key="1")

    with pytest.raises(TopicMissing, match=r"nowhere\.events"):
        publish()


def test_an_error_of_the_block_is_the_one_that_is_seen(driver: Driver) -> None:
    def publish() -> None:
        with Publisher(driver, "/publishing") as publisher:
            publisher.publish(ORDER, key="1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        publish()


def test_a_producer_that_was_given_stays_open(driver: Driver) -> None:
    with driver.producer() as producer:
        for _ in range(2):
            with Publisher(producer, "/publishing") as publisher:
                publisher.publish(ORDER, key="1")
        assert producer.send(TOPIC, b"k", b"v", partition=1).result(10).partition == TopicPartition(TOPIC, 1)


def test_without_kafka_it_says_so() -> None:
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1 does not answer"):
        Publisher(connect(KafkaConfig("127.0.0.1:1")), "/publishing")


@pytest.mark.parametrize(
    ("given", "said"),
    [({"a": 1}, "not a dict."), (OrderPlaced, "not the class OrderPlaced."), (None, "not a NoneType.")],
)
def test_what_is_no_event_is_told_so(publisher: Publisher, given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        publisher.publish(given)
    assert "publish_envelope" in error.value.remedy
    with pytest.raises(UsageError, match=said):
        add_event(None, given)  # type: ignore[arg-type]  # not even a connection is needed
