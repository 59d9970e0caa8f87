"""A consumer that reads archives promises what every consumer does; where there are none, it is Kafka's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_core.log import Driver, KafkaConfig, connect
from mesh_core.log.archive import archived
from tests.log.test_consumer import (  # noqa: F401
    consumer,
    producer,
    test_a_cut_topic_is_an_error_and_never_a_reset,
    test_a_record_comes_back_whole,
    test_aborted_transactions_are_skipped_and_counted_in_the_position,
    test_an_empty_topic_gives_nothing_and_keeps_its_position,
    test_no_poll_returns_more_than_it_was_asked_for,
    test_offsets_for_a_time,
    test_seek_pause_and_resume,
)
from tests.support.services import Services


@pytest.fixture(params=["kafka-python", "confluent-kafka"])
def driver(request: pytest.FixtureRequest, services: Services, tmp_path: Path) -> Driver:
    kafka = connect(KafkaConfig(services.kafka_bootstrap_servers, driver=request.param))
    return archived(kafka, tmp_path)
