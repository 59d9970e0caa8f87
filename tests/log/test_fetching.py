"""Records that come at any moment are read at once, whichever partitions are idle."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from mesh_core.log import KafkaConfig, TopicPartition, connect
from mesh_core.log.kafka_python.consumer import KafkaPythonConsumer
from tests.support.mesh import wait_for
from tests.support.services import Services


def test_an_answer_that_comes_between_looking_and_asking_is_taken_first(
    services: Services, topic: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = KafkaConfig(services.kafka_bootstrap_servers, driver="kafka-python")
    busy = TopicPartition(topic(2), 0)
    with connect(config).producer() as producer, KafkaPythonConsumer(config, None, None) as consumer:
        consumer.assign({busy: 0, TopicPartition(busy.topic, 1): 0})
        fetcher: Any = consumer._kafka._fetcher
        look = fetcher.fetched_records
        while not fetcher._fetch_futures:  # until it has asked
            consumer.poll(10, 0.0)
        took = []
        for number in range(5):
            producer.send(busy.topic, b"key", b"%d" % number, partition=0).result(10)
            wait_for(lambda: fetcher._completed_fetches, 60, "an answer")
            looks = iter([({}, False)])  # as if it had come just after this
            monkeypatch.setattr(
                fetcher, "fetched_records", lambda *a, looks=looks, **k: next(looks, None) or look(*a, **k)
            )
            began = time.monotonic()
            (found,) = consumer.poll(10, 1.0)
            took.append(time.monotonic() - began)
            assert found.offsets == [number]
            consumer.poll(10, 0.0)  # which asks again
        assert min(took) < 0.04, "the least is what it takes where nobody else uses the processors"


def test_what_the_group_has_just_taken_is_left_alone(services: Services, topic: Callable[[int], str]) -> None:
    """The client knows at once, in a thread of its own; whoever reads is told at the next poll."""
    config = KafkaConfig(services.kafka_bootstrap_servers, driver="kafka-python")
    taken = TopicPartition(topic(1), 0)
    with KafkaPythonConsumer(config, None, None) as consumer:
        consumer.assign({taken: 0})
        consumer._kafka.assign([])
        consumer.seek(taken, 5)
        consumer.pause([taken])
        consumer.resume([taken])
        assert consumer.positions().offsets == {taken: 5}
