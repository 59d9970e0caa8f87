"""Runs workloads on a local stack of their own, contenders taking turns, and gathers what came out."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bench.harness import Contender, Measure, Workload, measure
from bench.results import Result
from bench.workloads import WORKLOADS
from bench.workloads.w1 import ContactUpdates
from mesh_core import stack
from mesh_core.errors import UsageError
from mesh_core.log import KafkaConfig, TopicPartition, connect
from mesh_core.settings import load_settings
from mesh_core.stack.locks import exclusive

GROWTH = 10
"""By how much the topic grows when memory is measured."""
_MEGABYTE = 1_000_000

Say = Callable[[str], None]


def rates(names: Sequence[str], runs: int, only: str, say: Say) -> list[Result]:
    """Events a second of every contender of these workloads (all, if none is named) whose name has `only`.

    Raises UsageError on an unknown workload, BenchmarkFailed if a contender fails.
    """
    if unknown := set(names) - set(WORKLOADS):
        raise UsageError(
            f"There is no workload {', '.join(sorted(unknown))}.", remedy=f"Known: {', '.join(WORKLOADS)}."
        )
    results = []
    with _services() as services:
        for name in names or WORKLOADS:
            workload = WORKLOADS[name]
            for contender, measures in _rounds(workload, runs, only, services, say):
                speeds = [workload.events / measure.seconds for measure in measures]
                results.append(Result.of(name, contender.name, contender.kind, "events/s", speeds))
    return results


def memory(runs: int, only: str, say: Say) -> list[Result]:
    """The projector's peak of memory in megabytes, on the topic of W1 and on one `GROWTH` times as long."""
    results = []
    small = ContactUpdates()
    with _services() as services:
        for growth, workload in ((1, small), (GROWTH, replace(small, events=small.events * GROWTH))):
            for contender, measures in _rounds(workload, runs, only, services, say):
                peaks = [measure.peak_memory / _MEGABYTE for measure in measures]
                name = f"peak memory, topic ×{growth}, {contender.name}"
                results.append(Result.of("w1 memory", name, contender.kind, "MB", peaks))
    return results


def _rounds(
    workload: Workload, runs: int, only: str, services: stack.StackAddresses, say: Say
) -> Iterator[tuple[Contender, list[Measure]]]:
    """Every contender with its measures. They take turns, so that what disturbs the machine disturbs all."""
    contenders = [contender for contender in workload.contenders() if only in contender.name]
    say(f"{workload.name}: writing {workload.events:,} events")
    workload.fill(services.kafka_bootstrap_servers)
    found: dict[str, list[Measure]] = defaultdict(list)
    for number in range(1, runs + 1):
        for contender in contenders:
            done = measure(workload, contender, services)
            found[contender.name].append(done)
            say(
                f"{workload.name} {number}/{runs} {contender.name}: {done.seconds:.2f} s, "
                f"{workload.events / done.seconds:,.0f} events/s, {done.peak_memory / _MEGABYTE:.0f} MB"
            )
    for contender in contenders:
        yield contender, found[contender.name]


@contextmanager
def _services() -> Iterator[stack.StackAddresses]:
    """A Kafka and a Postgres of the benchmarks' own, beside the stack's folder; gone afterwards."""
    folder = load_settings().stack_path.parent / "bench"
    with exclusive(folder.with_suffix(".lock"), timeout_seconds=0):
        stack.reset(folder)  # what a killed run left
        try:
            services = stack.start(folder)
            _warm_up(services.kafka_bootstrap_servers)
            yield services
        finally:
            stack.reset(folder)
            shutil.rmtree(folder, ignore_errors=True)


class _FromStart:
    """Reads what it is given from the start, and remembers that it was given something."""

    def __init__(self) -> None:
        self.done = False

    def assigned(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        self.done = True
        return dict.fromkeys(partitions, 0)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        pass

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        pass


def _warm_up(bootstrap: str) -> None:
    """Joins a group: on a new broker the first one waits seconds for the broker's own topics."""
    driver = connect(KafkaConfig(bootstrap))
    with driver.admin() as admin, driver.consumer("warm-up") as consumer:
        admin.create_topic("warm-up", 1)
        listener = _FromStart()
        consumer.subscribe(["warm-up"], listener)
        while not listener.done:
            consumer.poll(1, 0.1)
