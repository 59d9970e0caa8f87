"""A broker that dies and comes back, under load: nothing is lost, nothing is doubled, nobody needs a push."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import pytest

from mesh_core import stack
from mesh_core.log import (
    Consumer,
    Delivered,
    DeliveryTimeout,
    Driver,
    KafkaConfig,
    LogUnavailable,
    Position,
    TopicPartition,
    connect,
)
from tests.conftest import OwnStack
from tests.log.reading import Record, Starts, read, records

TOPIC = "sales.events"
COUNT = 3_000
PARTITIONS = [TopicPartition(TOPIC, number) for number in range(3)]


@pytest.fixture(params=["kafka-python", "confluent-kafka"])
def config(request: pytest.FixtureRequest, own_stack: OwnStack) -> KafkaConfig:
    config = KafkaConfig(own_stack.addresses.kafka_bootstrap_servers, driver=request.param)
    with connect(config).admin() as admin:
        admin.create_topic(TOPIC, len(PARTITIONS))
    return config


class Sending(threading.Thread):
    """Sends COUNT numbered records over some seconds."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._producer = driver.producer()
        self.sent: list[Future[Delivered]] = []

    def run(self) -> None:
        for number in range(COUNT):
            self.sent.append(self._producer.send(TOPIC, f"{number % 50}".encode(), str(number).encode()))
            if number % 20 == 0:
                time.sleep(0.015)
        self._producer.flush(60)
        self._producer.close()


def healthy(consumer: Consumer) -> bool:
    return consumer.last_error is None


@pytest.mark.parametrize(
    ("config", "group"),
    [
        ("kafka-python", "projectors"),
        ("confluent-kafka", None),
        pytest.param("kafka-python", None, marks=pytest.mark.soak),
        pytest.param("confluent-kafka", "projectors", marks=pytest.mark.soak),
    ],
    indirect=["config"],
)
def test_a_broker_killed_and_restarted_under_load(
    config: KafkaConfig, own_stack: OwnStack, group: str | None
) -> None:
    driver = connect(config)
    sending = Sending(driver)
    found: list[Record] = []
    with driver.consumer(group) as consumer:
        if group:
            consumer.subscribe([TOPIC], Starts())
        else:
            consumer.assign(dict.fromkeys(PARTITIONS, 0))
        sending.start()
        while len(found) < 500:
            found += records(consumer.poll(1_000, 0.2))
        stack.kafka.kill(own_stack.directory)
        assert not driver.reachable()
        down = time.monotonic()
        while time.monotonic() - down < 1.5 or (healthy(consumer) and time.monotonic() - down < 40):
            started = time.monotonic()
            found += records(consumer.poll(1_000, 0.2))
            assert time.monotonic() - started < 8
        assert not healthy(consumer)
        with pytest.raises(LogUnavailable):
            consumer.end_offsets(PARTITIONS[:1])
        before = len(found)
        stack.kafka.start(own_stack.directory)
        up = time.monotonic()
        while len(found) == before:
            found += records(consumer.poll(1_000, 0.2))
            assert time.monotonic() - up < 45
        assert healthy(consumer)
        sending.join(60)
        end = Position.after((f.result(0).partition, f.result(0).offset) for f in sending.sent)
        while not consumer.positions().reaches(end):
            found += records(consumer.poll(1_000, 0.2))
            assert time.monotonic() - up < 100
        assert consumer.end_offsets(PARTITIONS) == end.offsets
    kept: dict[tuple[TopicPartition, int], bytes | None] = {}
    for part, offset, value in found:  # a group may start again from where its listener says: from 0
        assert kept.setdefault((part, offset), value) == value
    if group is None:
        assert len(kept) == len(found)
    assert sorted(int(value or b"-1") for value in kept.values()) == list(range(COUNT))
    for part in PARTITIONS:
        numbers = [int(kept[part, offset] or b"-1") for offset in range(end.offsets[part])]
        for key in range(50):
            assert [n for n in numbers if n % 50 == key] == sorted(n for n in numbers if n % 50 == key)


def test_a_record_that_is_not_acknowledged_in_time_fails_and_the_producer_recovers(
    config: KafkaConfig, own_stack: OwnStack
) -> None:
    driver = connect(replace(config, delivery_timeout=2.0))
    with driver.producer() as producer, driver.consumer() as consumer:
        first = producer.send(TOPIC, b"k", b"before").result(10)
        stack.kafka.kill(own_stack.directory)
        lost = producer.send(TOPIC, b"k", b"lost")
        with pytest.raises(DeliveryTimeout, match="in time"):
            producer.flush(0.2)
        started = time.monotonic()
        with pytest.raises(DeliveryTimeout, match="may or may not be in the log"):
            lost.result(10)
        assert time.monotonic() - started < 15
        stack.kafka.start(own_stack.directory)
        second = None
        while second is None:  # a busy machine takes longer than 2 s to have the broker back
            with contextlib.suppress(DeliveryTimeout, LogUnavailable):
                second = producer.send(TOPIC, b"k", b"after").result(20)
        assert second.partition == first.partition
        consumer.assign({first.partition: 0})
        values = [value for _, _, value in read(consumer, second.offset + 1)]
        assert values[0] == b"before"
        assert values[-1] == b"after"
        assert set(values[1:-1]) <= {b"lost", b"after"}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_is_acknowledged_of_a_topic_just_made_is_in_it(
    driver: Driver, topic: Callable[[int], str]
) -> None:
    """On a busy machine, where some partitions are not ready for their first batch, but for the second."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        for _ in range(50):
            name = topic(40)
            with driver.producer() as producer:
                for sent in [producer.send(name, f"key-{n}".encode(), b"x") for n in range(4_000)]:
                    sent.result(60)
            with driver.consumer() as consumer:
                ends = consumer.end_offsets([TopicPartition(name, n) for n in range(40)])
            assert sum(ends.values()) == 4_000
    finally:
        for each in burning:
            each.kill()
            each.wait()
