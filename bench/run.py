"""Runs workloads on a local stack of their own, contenders taking turns, and gathers what came out."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bench.harness import Contender, Figure, Workload, measure
from bench.peers import tools
from bench.results import Result, with_levels
from bench.workloads import WORKLOADS
from bench.workloads.w1 import ContactUpdates
from mesh_core import stack
from mesh_core.errors import UsageError
from mesh_core.log import KafkaConfig, TopicPartition, connect
from mesh_core.settings import load_settings
from mesh_core.stack.locks import exclusive

GROWTH = 10
"""By how much the topic grows when memory is measured."""
POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "16GB"}
"""As a server for such tables has: 16 times W2 is larger than the cache of the local stack, so that would be measured."""
_MEGABYTE = 1_000_000

Say = Callable[[str], None]


def figures(names: Sequence[str], runs: int, only: str, say: Say) -> Iterator[list[Result]]:
    """What these workloads (all, if none is named) measure of every contender; one by one.

    `only` is the name of one contender, or a part of the names of several.

    Raises UsageError on an unknown workload, BenchmarkFailed if a contender fails.
    """
    if unknown := set(names) - set(WORKLOADS):
        raise UsageError(
            f"There is no workload {', '.join(sorted(unknown))}.", remedy=f"Known: {', '.join(WORKLOADS)}."
        )
    if not tools.installed():
        say(tools.MISSING)
    with _services() as services:

        def take(workload: Workload, contender: Contender) -> list[Figure]:
            return workload.figures(contender, services)

        for name in names or WORKLOADS:
            parts = [rounds(workload, runs, only, take, services, say) for workload in WORKLOADS[name]]
            yield with_levels([result for part in parts for result in part])


def memory(runs: int, only: str, say: Say) -> list[Result]:
    """The projector's peak of memory in megabytes, on the topic of W1 and on one `GROWTH` times as long."""
    small = ContactUpdates()
    results = []
    with _services() as services:
        for growth, workload in ((1, small), (GROWTH, replace(small, events=small.events * GROWTH))):

            def peak(w: Workload, contender: Contender, growth: int = growth) -> list[Figure]:
                done = measure(w, contender, services)
                return [Figure(f"{growth}x memory", done.peak_memory / _MEGABYTE, "MB")]

            found = rounds(workload, runs, only, peak, services, say)
            results += [replace(result, workload="w1 memory") for result in found]
    return results


def rounds(
    workload: Workload,
    runs: int,
    only: str,
    take: Callable[[Workload, Contender], list[Figure]],
    services: stack.StackAddresses,
    say: Say,
) -> list[Result]:
    """Every contender's results. They take turns, so that what disturbs the machine disturbs all."""
    everybody = workload.contenders()
    contenders = [contender for contender in everybody if contender.name == only] or [
        contender for contender in everybody if only in contender.name
    ]
    say(f"{workload.name}: {workload.events:,} events")
    workload.fill(services.kafka_bootstrap_servers)
    found: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    for number in range(1, runs + 1):
        for place, contender in enumerate(contenders):
            taken = take(workload, contender)
            for figure in taken:
                found[place, figure.aspect, figure.unit].append(figure.value)
            told = ", ".join(f"{figure.aspect} {figure.value:,.1f} {figure.unit}".strip() for figure in taken)
            say(f"{workload.name} {number}/{runs} {contender.name}: {told}")
    return [
        Result.of(
            workload.name,
            ", ".join(filter(None, (contenders[place].name, aspect))),
            contenders[place].kind,
            unit,
            values,
        )
        for (place, aspect, unit), values in sorted(found.items(), key=lambda item: item[0][0])
    ]


@contextmanager
def _services() -> Iterator[stack.StackAddresses]:
    """A Kafka and a Postgres of the benchmarks' own, beside the stack's folder; gone afterwards."""
    folder = load_settings().stack_path.parent / "bench"
    with exclusive(folder.with_suffix(".lock"), timeout_seconds=0):
        stack.reset(folder)  # what a killed run left
        try:
            services = stack.start(folder, postgres_settings=POSTGRES)
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
