"""The benchmarks themselves: no figure without the right rows, and memory that does not grow with a topic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg
import pytest

from bench.harness import BenchmarkFailed, Contender, Measure, measure
from bench.results import Result, table
from bench.run import GROWTH
from bench.workloads.w1 import ContactUpdates
from mesh_core.stack import StackAddresses
from tests.support.services import Services

SMALL = ContactUpdates(events=2_000, contacts=200)


@pytest.fixture
def addresses(services: Services, clean_kafka: str) -> StackAddresses:
    return StackAddresses(services.database_url, clean_kafka)


def contender(name: str) -> Contender:
    return next(found for found in SMALL.contenders() if found.name == name)


@pytest.mark.parametrize(
    "name", ["straight script kafka-python", "straight script confluent-kafka", "incremental kafka-python"]
)
def test_a_contender_that_makes_the_right_rows_has_a_figure(name: str, addresses: StackAddresses) -> None:
    SMALL.fill(addresses.kafka_bootstrap_servers)
    done = measure(SMALL, contender(name), addresses)
    assert 0 < done.seconds < 60
    assert done.peak_memory > 10_000_000


@dataclass(frozen=True)
class OneRowElse(ContactUpdates):
    """A truth that differs in one value of one row from what the events say."""

    def write_truth(self, connection: psycopg.Connection) -> None:
        super().write_truth(connection)
        connection.execute("UPDATE truth SET status = 'else' WHERE id = 17")


def test_one_wrong_value_in_one_row_is_no_figure(addresses: StackAddresses) -> None:
    SMALL.fill(addresses.kafka_bootstrap_servers)
    workload = OneRowElse(SMALL.events, SMALL.contacts)
    with pytest.raises(BenchmarkFailed, match="differ from the truth"):
        measure(workload, contender("straight script kafka-python"), addresses)


def test_a_contender_that_ends_early_is_no_figure(addresses: StackAddresses) -> None:
    quitter = replace(contender("straight script kafka-python"), command=("-c", "import sys; sys.exit(3)"))
    with pytest.raises(BenchmarkFailed, match="ended with status 3"):
        measure(SMALL, quitter, addresses)


def test_a_median_is_compared_with_the_floor_of_the_same_driver() -> None:
    results = [
        Result.of("w1", "straight script kafka-python", "floor", "events/s", [90.0, 100.0, 300.0]),
        Result.of("w1", "straight script confluent-kafka", "floor", "events/s", [200.0]),
        Result.of("w1", "incremental kafka-python", "ours", "events/s", [60.0, 50.0, 40.0]),
    ]
    titles, rows = table(results)
    assert dict(zip(titles, rows[2], strict=True)) == {
        "workload": "w1",
        "name": "incremental kafka-python",
        "kind": "ours",
        "median": "50",
        "spread": "40–60",
        "unit": "events/s",
        "of floor": "0.50",
    }


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("driver", ["kafka-python", "confluent-kafka"])
def test_memory_stays_flat_as_the_topic_grows_tenfold(
    driver: str, addresses: StackAddresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Batches must be as large on the short topic as on the long one, or it is they that are compared.
    monkeypatch.setenv("MESH_PROJECTOR_BATCH_MAX", "10000")
    short = ContactUpdates(events=100_000)
    peaks = []
    for workload in (short, replace(short, events=short.events * GROWTH)):
        workload.fill(addresses.kafka_bootstrap_servers)
        done: Measure = measure(workload, contender(f"incremental {driver}"), addresses)
        peaks.append(done.peak_memory)
    assert peaks[1] < 1.25 * peaks[0]
