"""Of each partition the first batch travels alone: what librdkafka is handed, and when."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka.partitioner.default import murmur2

from mesh_core.log import Driver, LogUnavailable, TopicPartition
from mesh_core.log.confluent import first_batches
from mesh_core.log.confluent.first_batches import ANY, FirstAlone, Sending
from mesh_core.log.driver import ConfluentDriver

PARTITIONS = 2
# Of either partition, by their keys.
KEYS = {(murmur2(key) & 0x7FFFFFFF) % PARTITIONS: key for key in (b"a", b"b", b"c", b"d", b"e", b"f")}


class Client:
    """Stands for librdkafka's producer, so that a test says when what is answered; what it was handed is in `handed`."""

    def __init__(self) -> None:
        self.handed: list[bytes] = []
        self.answer: dict[bytes, Callable[[Any], None]] = {}
        self.full = self.away = False

    def list_topics(self, topic: str, timeout: float) -> Any:
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        found = SimpleNamespace(error=None, partitions=dict.fromkeys(range(PARTITIONS)))
        return SimpleNamespace(topics={topic: found})

    def produce(self, topic: str, *, value: bytes, on_delivery: Callable[[Any, Any], None], **_: Any) -> None:
        if self.full:
            raise BufferError
        self.handed.append(value)
        self.answer[value] = lambda error=None: on_delivery(error, None)


class Sent:
    def __init__(self) -> None:
        self.client = Client()
        self.alone = FirstAlone(self.client)  # type: ignore[arg-type]
        self.told: dict[bytes, Any] = {}

    def send(self, value: str, partition: int = 0) -> None:
        name = value.encode()

        def told(error: Any, _: Any) -> None:
            self.told[name] = error

        self.alone.produce(Sending("t", KEYS[partition], name, None, (), ANY, told))

    def answer(self, value: str, error: Any = None) -> None:
        self.client.answer[value.encode()](error)

    @property
    def handed(self) -> str:
        return b" ".join(self.client.handed).decode()


def test_what_follows_the_first_of_a_partition_waits_until_that_is_there() -> None:
    sent = Sent()
    for value in ("a1", "a2", "a3"):
        sent.send(value)
    sent.send("b1", 1)
    assert sent.handed == "a1 b1"
    sent.answer("a1")
    assert sent.handed == "a1 b1 a2 a3"
    sent.send("a4")
    sent.send("b2", 1)
    assert sent.handed == "a1 b1 a2 a3 a4"
    sent.answer("b1")
    sent.send("b3", 1)
    assert sent.handed == "a1 b1 a2 a3 a4 b2 b3"
    assert sent.told == {b"a1": None, b"b1": None}


def test_where_the_first_fails_what_waits_behind_it_does_and_the_next_is_first() -> None:
    sent = Sent()
    for value in ("a1", "a2", "a3"):
        sent.send(value)
    gone = KafkaError(KafkaError._MSG_TIMED_OUT)
    sent.answer("a1", gone)
    assert sent.told == dict.fromkeys((b"a1", b"a2", b"a3"), gone)
    sent.send("a4")
    sent.send("a5")
    assert sent.handed == "a1 a4"


def test_one_that_is_too_large_takes_no_other_with_it() -> None:
    sent = Sent()
    for value in ("a1", "a2", "a3"):
        sent.send(value)
    sent.answer("a1", KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    assert sent.handed == "a1 a2"
    sent.answer("a2")
    assert sent.handed == "a1 a2 a3"
    assert sent.told[b"a2"] is None


def test_after_a_failure_the_next_is_alone_again() -> None:
    sent = Sent()
    for partition in range(PARTITIONS):
        sent.send(f"{partition}", partition)
        sent.answer(f"{partition}")
    sent.alone.forget("t")
    sent.send("a1")
    sent.send("a2")
    assert sent.handed == "0 1 a1"


def test_what_a_broker_may_have_forgotten_is_alone_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_batches, "REMEMBERED_SECONDS", 0.0)
    sent = Sent()
    for partition in range(PARTITIONS):
        sent.send(f"{partition}", partition)
        sent.answer(f"{partition}")
    sent.send("a1")
    sent.send("a2")
    assert sent.handed == "0 1 a1"


def test_what_cannot_be_handed_over_any_more_is_told() -> None:
    sent = Sent()
    for value in ("a1", "a2", "a3"):
        sent.send(value)
    sent.client.full = True
    sent.answer("a1")
    assert sent.handed == "a1"
    for name in (b"a2", b"a3"):
        assert sent.told[name].code() == KafkaError._QUEUE_FULL


def test_without_kafka_a_new_topic_is_told_to_be_away() -> None:
    sent = Sent()
    sent.client.away = True
    with pytest.raises(LogUnavailable, match="does not tell of topic t"):
        sent.send("a1")
    sent.client.away = False
    sent.send("a1")
    assert sent.handed == "a1"


def test_without_a_key_each_partition_has_its_share(driver: Driver, topic: Callable[[int], str]) -> None:
    if not isinstance(driver, ConfluentDriver):
        pytest.skip("of confluent-kafka")
    name = topic(4)
    with driver.producer() as producer:
        places = [producer.send(name, None, b"x").result(30).partition for _ in range(8)]
    assert set(places) == {TopicPartition(name, n) for n in range(4)}
