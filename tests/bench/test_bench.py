"""The benchmarks themselves: no figure without the right rows, and memory that does not grow with a topic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import psycopg
import pytest

from bench.chart import draw
from bench.harness import BenchmarkFailed, Contender, Figure, Measure, Workload, measure
from bench.history import CONTACT_TOPIC, INVOICE_TOPIC, ORGANISATION_TOPIC, ThreeServices, fold
from bench.limits import shortfalls
from bench.peers import tools
from bench.results import Result, table, with_levels
from bench.run import GROWTH, rounds
from bench.workloads import reads
from bench.workloads.w1 import ContactUpdates
from bench.workloads.w2 import Grown, Joined
from bench.workloads.w3 import Freshness
from mesh_core.stack import StackAddresses
from tests.support.services import Services

SMALL = ContactUpdates(events=2_000, contacts=200)
AMENDED = ThreeServices(200, 2_000, 20, 40, 1_500, 2_000)
"""Every third invoice is updated again, and moves to another contact."""


@pytest.fixture
def addresses(services: Services, clean_kafka: str) -> StackAddresses:
    return StackAddresses(services.database_url, clean_kafka)


def contender(name: str, workload: Workload = SMALL) -> Contender:
    return next(found for found in workload.contenders() if found.name == name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("straight script kafka-python", marks=pytest.mark.soak),
        pytest.param("straight script confluent-kafka", marks=pytest.mark.soak),
        "incremental kafka-python",
    ],
)
def test_a_contender_that_makes_the_right_rows_has_a_figure(name: str, addresses: StackAddresses) -> None:
    SMALL.fill(addresses.kafka_bootstrap_servers)
    done = measure(SMALL, contender(name), addresses)
    assert 0 < done.seconds < 60
    assert done.peak_memory > 10_000_000


def test_the_joined_truth_is_what_folding_every_event_gives() -> None:
    last = fold(AMENDED.records())
    for row in AMENDED.joined():
        owed = [i["amount"] for i in last[INVOICE_TOPIC].values() if i["contact_id"] == row["id"]]
        organisation = last[ORGANISATION_TOPIC][row["org_id"]]["name"]
        assert row == {
            **last[CONTACT_TOPIC][row["id"]],
            "org_name": organisation,
            "invoice_count": len(owed),
            "invoice_sum": sum(owed),
        }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("straight script kafka-python", marks=pytest.mark.soak),
        pytest.param("straight script, bulk confluent-kafka", marks=pytest.mark.soak),
        pytest.param("straight script in two processes, bulk confluent-kafka", marks=pytest.mark.soak),
        pytest.param("hand-written, 100 events a transaction, confluent-kafka", marks=pytest.mark.soak),
        "incremental confluent-kafka",
        pytest.param("bulk kafka-python", marks=pytest.mark.soak),
    ],
)
def test_joins_of_amended_invoices_are_right(name: str, addresses: StackAddresses) -> None:
    workload = Joined(AMENDED)
    workload.fill(addresses.kafka_bootstrap_servers)
    (figure,) = workload.figures(contender(name, workload), addresses)
    assert figure.value > 0
    assert figure.unit == "events/s"


@pytest.mark.skipif(not tools.installed(), reason=tools.MISSING)
@pytest.mark.parametrize(
    ("name", "workload"), [("Pathway", SMALL), ("Bytewax", SMALL), ("Pathway", Joined(AMENDED))]
)
def test_other_tools_make_the_same_rows(name: str, workload: Workload, addresses: StackAddresses) -> None:
    workload.fill(addresses.kafka_bootstrap_servers)
    (figure,) = workload.figures(contender(name, workload), addresses)
    assert figure.value > 0


def test_growth_tells_rate_and_memory(addresses: StackAddresses) -> None:
    workload = Grown(AMENDED, "w4", "1x")
    workload.fill(addresses.kafka_bootstrap_servers)
    rate, memory = workload.figures(contender("bulk confluent-kafka", workload), addresses)
    assert (rate.aspect, rate.unit) == ("1x", "events/s")
    assert (memory.aspect, memory.unit) == ("1x memory", "MB")
    assert memory.value > 10


@pytest.mark.parametrize(
    "name",
    [pytest.param("straight script confluent-kafka", marks=pytest.mark.soak), "incremental kafka-python"],
)
def test_freshness_is_told_in_percentiles(name: str, addresses: StackAddresses) -> None:
    workload = Freshness(rate=100, seconds=1)
    p50, p99 = workload.figures(contender(name, workload), addresses)
    assert (p50.aspect, p99.aspect) == ("p50", "p99")
    assert 0 <= p50.value <= p99.value < 30_000


@dataclass(frozen=True)
class OneRowElse(ContactUpdates):
    """A truth that differs in one value of one row from what the events say."""

    def write_truth(self, connection: psycopg.Connection) -> None:
        super().write_truth(connection)
        connection.execute("UPDATE truth SET status = 'else' WHERE id = 17")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("hand-written route", marks=pytest.mark.soak),
        "mesh api",
        pytest.param("fan-out by service", marks=pytest.mark.soak),
        "fan-out by row",
    ],
)
def test_answers_are_right_and_counted(
    name: str, addresses: StackAddresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "SECONDS", 0.4)
    monkeypatch.setattr(reads, "WARM_UP", 0.1)
    workload = reads.Reads(ThreeServices(200, 200, 20, 20, 600, 600))
    workload.fill(addresses.kafka_bootstrap_servers)
    contender = next((each for each in workload.contenders() if each.name == name), None)
    if contender is None:
        pytest.skip(tools.MISSING)
    figures = {figure.aspect: figure.value for figure in workload.figures(contender, addresses)}
    expected = {"page rate", "page p50", "page p99"}
    assert set(figures) == expected | (
        {"row rate", "row p50", "row p99"} if contender.kind != "peer" else set()
    )
    assert all(value > 0 for value in figures.values())


def test_too_few_answers_are_told() -> None:
    def result(name: str, kind: Any, value: float) -> Result:
        return Result.of("reads", name, kind, "requests/s", [value])

    floor = [
        result("hand-written route, row rate", "floor", 100),
        result("hand-written route, page rate", "floor", 100),
    ]
    fans = [
        result("fan-out by service, page rate", "peer", 30),
        result("fan-out by row, page rate", "peer", 1),
    ]
    fine = [result("mesh api, row rate", "ours", 81), result("mesh api, page rate", "ours", 121)]
    assert shortfalls([*floor, *fans, *fine]) == []
    slow = [result("mesh api, row rate", "ours", 79), result("mesh api, page rate", "ours", 89)]
    assert shortfalls([*floor, *fans, *slow]) == [
        "reads: mesh api, row rate reaches 0.79 of its floor, less than 0.8",
        "reads: mesh api, page rate reaches 0.89 of its floor, less than 0.9",
        "reads: mesh api, page rate is 3.0 times fan-out by service, page rate, less than 4",
    ]


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


def test_bulk_and_aspects_are_compared_with_their_like() -> None:
    results = [
        Result.of("w4", "straight script confluent-kafka, 1x", "floor", "events/s", [100.0]),
        Result.of("w4", "straight script, bulk confluent-kafka, 1x", "floor", "events/s", [200.0]),
        Result.of(
            "w4", "straight script in two processes, bulk confluent-kafka, 1x", "floor", "events/s", [400.0]
        ),
        Result.of("w4", "bulk confluent-kafka, 1x", "ours", "events/s", [50.0]),
        Result.of("w4", "Some Tool, 1x", "peer", "events/s", [50.0]),
    ]
    _, rows = table(results)
    assert [row[-1] for row in rows] == ["1.00", "1.00", "2.00", "0.25", "0.50"]


def test_what_is_too_slow_too_large_or_slows_down_is_told() -> None:
    results = [
        Result.of("w1", "straight script kafka-python", "floor", "events/s", [100.0]),
        Result.of("w1", "incremental kafka-python", "ours", "events/s", [39.0]),
        Result.of(
            "w2", "straight script in two processes, bulk confluent-kafka", "floor", "events/s", [100.0]
        ),
        Result.of("w2", "bulk kafka-python", "ours", "events/s", [20.0]),
        Result.of("w2", "bulk confluent-kafka", "ours", "events/s", [59.0]),
        Result.of(
            "w2", "hand-written, 100 events a transaction, confluent-kafka", "peer", "events/s", [50.0]
        ),
        Result.of("w2", "Pathway", "peer", "events/s", [30.0]),
        Result.of("w3", "straight script kafka-python, p50", "floor", "ms", [1.0]),
        Result.of("w3", "straight script kafka-python, p99", "floor", "ms", [2.0]),
        Result.of("w3", "incremental kafka-python, p50", "ours", "ms", [2.0]),
        Result.of("w3", "incremental kafka-python, p99", "ours", "ms", [3.2]),
        Result.of("w4", "bulk kafka-python, 1x", "ours", "events/s", [100.0]),
        Result.of("w4", "bulk kafka-python, 16x", "ours", "events/s", [84.0]),
        Result.of("w4", "bulk kafka-python, 16x memory", "ours", "MB", [401.0]),
    ]
    assert shortfalls(results) == [
        "w1: incremental kafka-python reaches 0.39 of its floor, less than 0.7",
        "w2: bulk confluent-kafka reaches 0.59 of straight script in two processes, bulk confluent-kafka, less than 0.6",
        "w2: bulk confluent-kafka is 2.0 times as fast as Pathway, less than 2",
        "w3: incremental kafka-python, p99 takes 1.60 times as long as its floor, more than 1.5",
        "w4: bulk kafka-python, 16x reaches 0.84 of 1x, less than 0.85",
        "w4: bulk kafka-python, 16x memory takes 401 MB, more than 400",
    ]


def test_a_rate_that_grew_is_told_as_a_level() -> None:
    results = [
        Result.of("w4", "bulk kafka-python, 1x", "ours", "events/s", [100.0, 110.0, 90.0]),
        Result.of("w4", "bulk kafka-python, 1x memory", "ours", "MB", [80.0]),
        Result.of("w4", "bulk kafka-python, 16x", "ours", "events/s", [84.0, 90.0, 95.0]),
        Result.of("w4", "bulk kafka-python, 16x memory", "ours", "MB", [90.0]),
        Result.of("w2", "bulk kafka-python", "ours", "events/s", [100.0]),
    ]
    *_, level, memory, _ = with_levels(results)
    assert (level.name, level.aspect, level.unit) == ("bulk kafka-python, 16x level", "16x level", "% of 1x")
    assert (level.value, level.runs) == (90.0, (84.0, 90.0, 95.0))
    assert [result for result in with_levels(results) if result != level] == results
    assert memory.unit == "MB"


def test_a_contender_is_chosen_by_its_name_or_a_part_of_names(addresses: StackAddresses) -> None:
    def chosen(only: str) -> set[str]:
        results = rounds(Joined(AMENDED), 1, only, lambda *_: [Figure("", 1.0, "events/s")], addresses, print)
        return {result.name for result in results}

    assert chosen("bulk confluent-kafka") == {"bulk confluent-kafka"}
    assert {"bulk kafka-python", "straight script, bulk confluent-kafka"} < chosen("bulk")


def test_a_chart_is_an_svg_with_every_result() -> None:
    results = [
        Result.of("w1", "Tool <x>", "peer", "events/s", [90.0, 100.0, 300.0]),
        Result.of("w3", "incremental kafka-python, p99", "ours", "ms", [6.5]),
    ]
    svg = ElementTree.fromstring(draw(results))  # noqa: S314 - of our own making
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Tool <x>", "incremental kafka-python, p99", "100", "6.5"} <= set(texts)


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
