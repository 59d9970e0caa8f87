"""What ours must reach, and what is told when it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.results import Result, floor_of

LEAST = {"w1": 0.4}
"""The share of its floor, on the same driver and in the same run, that ours must reach."""
LEVEL = 0.15
"""By how much a rate may fall as a history grows."""
MEMORY = 400.0
"""The most megabytes of a process."""


def shortfalls(results: Sequence[Result]) -> list[str]:
    """What of ours is slower or larger than it may be, in words."""
    ours = [result for result in results if result.kind == "ours"]
    return [*_too_slow(ours, results), *_not_level(ours), *_too_large(ours)]


def _too_slow(ours: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    for result in ours:
        floor, least = floor_of(result, results), LEAST.get(result.workload)
        if floor and least and result.unit == "events/s" and result.value < least * floor.value:
            share = result.value / floor.value
            yield f"{result.workload}: {result.name} reaches {share:.2f} of its floor, less than {least}"


def _not_level(ours: Sequence[Result]) -> Iterator[str]:
    small = {(r.workload, r.name): r for r in ours if r.aspect == "1x"}
    for result in ours:
        before = small.get((result.workload, result.name.replace(result.aspect, "1x")))
        if before and result.unit == "events/s" and result.value < (1 - LEVEL) * before.value:
            share = result.value / before.value
            yield f"{result.workload}: {result.name} reaches {share:.2f} of 1x, less than {1 - LEVEL:.2f}"


def _too_large(ours: Sequence[Result]) -> Iterator[str]:
    for result in ours:
        if result.workload == "w4" and result.unit == "MB" and result.value > MEMORY:
            yield f"{result.workload}: {result.name} takes {result.value:,.0f} MB, more than {MEMORY:.0f}"
