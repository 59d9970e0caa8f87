"""What every driver's producer promises, on a real Kafka."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from kafka.partitioner.default import murmur2

from mesh_core.log import (
    Delivered,
    Driver,
    KafkaConfig,
    LogError,
    LogUnavailable,
    MessageTooLarge,
    Outgoing,
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
        again: list[Delivered | Exception] = []
        record = SimpleNamespace(topic=lambda: name, partition=lambda: 0, offset=lambda: None)
        producer._answered(producer._current(), again.append, None, record)  # type: ignore[attr-defined]
        assert again == [Delivered(TopicPartition(name, 0), 2)]


def test_at_once_is_sent_what_need_not_wait(driver: Driver, topic: Topics) -> None:
    name = topic(1)
    records = [Outgoing(name, b"k", str(n).encode()) for n in range(3)]
    with driver.producer() as producer:
        assert producer.send_at_once(records) is None, "it has to ask for the topic's partitions first"
        producer.send(name, b"k", b"first").result(30)
        sent = producer.send_at_once(records)
        assert sent is not None
        sent.done.result(30)
        assert [each.offset for each in sent.results if isinstance(each, Delivered)] == [1, 2, 3]
    assert producer.send_at_once(records) is None, "it is closed"


def test_what_is_sent_together_is_told_one_by_one(driver: Driver, topic: Topics) -> None:
    name = topic(3)
    records = [Outgoing(name, f"k{n}".encode(), str(n).encode(), 1_000 + n) for n in range(500)]
    with driver.producer() as producer:
        sent = producer.send_all(records)
        single = producer.send(name, b"k0", b"after")
        sent.done.result(30)
        places = [each for each in sent.results if isinstance(each, Delivered)]
        assert len(places) == len(set(places)) == 500
        after = single.result(30)
        assert after.offset > next(each.offset for each in places if each.partition == after.partition)
        producer.send_all([]).done.result(0)
        producer.flush(10)
    with driver.consumer() as consumer:
        ends = consumer.end_offsets([TopicPartition(name, n) for n in range(3)])
    assert sum(ends.values()) == 501


def test_of_what_is_sent_together_nothing_is_sent_behind_what_is_not(driver: Driver, topic: Topics) -> None:
    name = topic(1)
    with driver.producer() as producer:
        large = producer.send_all([Outgoing(name, b"k", b"1"), Outgoing(name, b"k", b"x" * 1_000_001)])
        large.done.result(5)
        assert [type(each) for each in large.results] == [MessageTooLarge, MessageTooLarge]
    closed = producer.send_all([Outgoing(name, b"k", b"1")])
    closed.done.result(0)
    assert isinstance(closed.results[0], LogError)
    with driver.consumer() as consumer:
        assert consumer.end_offsets([TopicPartition(name, 0)]) == {TopicPartition(name, 0): 0}
