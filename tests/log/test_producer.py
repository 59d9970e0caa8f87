"""What every driver's producer promises, on a real Kafka."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from kafka.partitioner.default import murmur2

from mesh_core.log import (
    Delivered,
    Driver,
    KafkaConfig,
    LogUnavailable,
    MessageTooLarge,
    Position,
    TopicMissing,
    TopicPartition,
    connect,
)
from mesh_core.log.driver import ConfluentDriver
from tests.log.reading import read_to

Topics = Callable[[int], str]


def test_keys_go_to_the_partition_that_murmur2_says(driver: Driver, topic: Topics) -> None:
    name = topic(7)
    keys = [f"key-{n}".encode() for n in range(200)] + ["ключ".encode(), b"\x00", b"a,b"]
    with driver.producer() as producer:
        sent = {key: producer.send(name, key, b"v") for key in keys}
        found = {key: future.result(10).partition.partition for key, future in sent.items()}
    assert found == {key: (murmur2(key) & 0x7FFFFFFF) % 7 for key in keys}


def test_records_of_a_key_keep_their_order(driver: Driver, topic: Topics) -> None:
    name = topic(3)
    with driver.producer() as producer:
        sent = [producer.send(name, f"{n % 10}".encode(), str(n).encode()) for n in range(5_000)]
        producer.flush(30)
        assert all(future.done() for future in sent)
        where = [future.result() for future in sent]
    end = Position.after((record.partition, record.offset) for record in where)
    with driver.consumer() as consumer:
        consumer.assign(dict.fromkeys(end.offsets, 0))
        by_key = defaultdict(list)
        for _, _, value in read_to(consumer, end.offsets):
            assert value is not None
            by_key[int(value) % 10].append(int(value))
    assert all(numbers == list(range(key, 5_000, 10)) for key, numbers in by_key.items())
    assert len(by_key) == 10


def test_a_partition_can_be_chosen(driver: Driver, topic: Topics) -> None:
    name = topic(2)
    with driver.producer() as producer:
        found = [producer.send(name, b"k", b"v", partition=number).result(10) for number in (0, 1, 1)]
    assert [(record.partition, record.offset) for record in found] == [
        (TopicPartition(name, 0), 0),
        (TopicPartition(name, 1), 0),
        (TopicPartition(name, 1), 1),
    ]


def test_a_message_of_two_megabytes_is_refused_by_size_and_limit(driver: Driver, topic: Topics) -> None:
    with (
        driver.producer() as producer,
        pytest.raises(MessageTooLarge, match=r"has 2,097,153 bytes; the limit is 1,000,000"),
    ):
        producer.send(topic(1), b"k", b"x" * 2 * 1024 * 1024)


def test_the_largest_message_arrives(driver: Driver, topic: Topics) -> None:
    part = TopicPartition(topic(1), 0)
    large = bytes(n * 7919 % 251 for n in range(999_000))
    with driver.producer() as producer, driver.consumer() as consumer:
        producer.send(part.topic, b"k", large).result(10)
        consumer.assign({part: 0})
        assert read_to(consumer, {part: 1}) == [(part, 0, large)]


def test_a_missing_topic_is_named(driver: Driver, unique: Callable[[str], str]) -> None:
    name = unique("nowhere")
    with driver.producer() as producer, pytest.raises(TopicMissing, match=name):
        producer.send(name, b"k", b"v").result(20)


def test_a_broker_that_is_not_there_is_said_so_at_once(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = f"127.0.0.1:{free.getsockname()[1]}"
    there = connect(KafkaConfig(nowhere, driver=driver.config.driver))  # type: ignore[attr-defined]
    assert not there.reachable(0.5)
    assert driver.reachable()
    for make in (there.producer, there.consumer, there.admin):
        with pytest.raises(LogUnavailable, match=nowhere):
            make()


def test_a_closed_producer_refuses(driver: Driver, topic: Topics) -> None:
    producer = driver.producer()
    producer.close()
    producer.close()
    with pytest.raises(Exception, match="closed"):
        producer.send(topic(1), b"k", b"v")


def test_a_record_that_the_broker_had_already_is_the_last_one_or_before(
    driver: Driver, topic: Topics
) -> None:
    """An idempotent producer that sends again hears that the record is there, but not where."""
    if not isinstance(driver, ConfluentDriver):
        pytest.skip("kafka-python tells the offset of the first try")
    name = topic(1)
    with driver.producer() as producer:
        sent = [producer.send(name, b"k", str(n).encode()) for n in range(3)]
        assert [future.result(10).offset for future in sent] == [0, 1, 2]
        again: Future[Delivered] = Future()
        record = SimpleNamespace(topic=lambda: name, partition=lambda: 0, offset=lambda: None)
        producer._settled(again, None, record)  # type: ignore[attr-defined]
        assert again.result(0) == Delivered(TopicPartition(name, 0), 2)
