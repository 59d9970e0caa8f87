"""What ours must reach, and what is told when it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.results import TWO, Result, floor_of

LEAST = {"w1": 0.7, "w2": 0.7}
RELAYED = 20_000
"""Rows of an outbox that one of the drivers must relay a second."""
"""The share of its floor, on the same driver and in the same run, that ours must reach."""
OF_TWO = 0.6
"""The share that a bulk build must reach of the straight script in two processes."""
TIMES_A_TOOL = 2.0
"""How many times as fast as the best streaming tool a bulk build must be."""
LATEST = {"w3": ("p99", 1.5)}
"""How many times as long as on its floor events may take to be seen."""
LEVEL = 0.15
"""By how much a rate may fall as a history grows."""
SERVED = {"row rate": 0.8, "page rate": 0.9, "event rate": 0.7}
"""The share of the straight route's answers a second that ours must reach."""
TIMES_A_FAN_OUT = {"fan-out by service": 4.0, "fan-out by row": 50.0}
"""How many times the answers a second of a join at request time ours must give."""
REPLAYED = 0.9
"""The share of a bulk build's rate, in as many processes, that a replay must reach."""
LATE_MS = 1000.0
"""How late live events may be while a replay reads."""
MEMORY = 400.0
"""The most megabytes of a process."""


def shortfalls(results: Sequence[Result]) -> list[str]:
    """What of ours is slower or larger than it may be, in words."""
    ours = [result for result in results if result.kind == "ours"]
    return [
        *_too_slow(ours, results),
        *_too_slow_in_bulk(ours, results),
        *_too_late(ours, results),
        *_not_level(ours),
        *_too_large(ours),
        *_too_few_answers(ours, results),
        *_too_few_relayed(ours),
        *_replayed(ours, results),
    ]


def _too_slow(ours: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    for result in ours:
        floor, least = floor_of(result, results), LEAST.get(result.workload)
        if floor and least and result.unit == "events/s" and result.value < least * floor.value:
            share = result.value / floor.value
            yield f"{result.workload}: {result.name} reaches {share:.2f} of its floor, less than {least}"


def _too_slow_in_bulk(ours: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    for result in ours:
        if not (result.workload == "w2" and result.bulk):
            continue
        same = [r for r in results if r.workload == result.workload and r.unit == result.unit]
        two = [r for r in same if r.kind == "floor" and TWO in r.name and r.driver == result.driver]
        for floor in two:
            if result.value < OF_TWO * floor.value:
                share = result.value / floor.value
                yield f"{result.workload}: {result.name} reaches {share:.2f} of {floor.name}, less than {OF_TWO}"
        tools = [r for r in same if r.kind == "peer" and not r.driver]
        for tool in tools if two else ():
            if result.value < TIMES_A_TOOL * tool.value:
                times = result.value / tool.value
                yield f"{result.workload}: {result.name} is {times:.1f} times as fast as {tool.name}, less than {TIMES_A_TOOL:g}"


def _too_late(ours: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    for result in ours:
        aspect, most = LATEST.get(result.workload, ("", 0.0))
        floor = floor_of(result, results)
        if aspect and floor and result.aspect == aspect and result.value > most * floor.value:
            times = result.value / floor.value
            yield f"{result.workload}: {result.name} takes {times:.2f} times as long as its floor, more than {most:g}"


def _not_level(ours: Sequence[Result]) -> Iterator[str]:
    small = {(r.workload, r.name): r for r in ours if r.aspect == "1x"}
    for result in ours:
        before = small.get((result.workload, result.name.replace(result.aspect, "1x")))
        if before and result.unit == "events/s" and result.value < (1 - LEVEL) * before.value:
            share = result.value / before.value
            yield f"{result.workload}: {result.name} reaches {share:.2f} of 1x, less than {1 - LEVEL:.2f}"


def _too_few_answers(ours: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    for result in ours:
        floor, least = floor_of(result, results), SERVED.get(result.aspect)
        if floor and least and result.value < least * floor.value:
            share = result.value / floor.value
            yield f"{result.workload}: {result.name} reaches {share:.2f} of its floor, less than {least}"
        for other in results:
            times = TIMES_A_FAN_OUT.get(other.name.rpartition(", ")[0], 0.0)
            same = (
                (other.workload, other.aspect) == (result.workload, result.aspect) == ("reads", "page rate")
            )
            if same and result.value < times * other.value:
                more = result.value / other.value
                yield f"reads: {result.name} is {more:.1f} times {other.name}, less than {times:g}"


def _replayed(ours: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    build = next((r for r in results if r.workload == "replay" and r.kind == "floor"), None)
    for result in ours:
        if result.workload != "replay":
            continue
        if build and result.name == "mesh replay" and result.value < REPLAYED * build.value:
            yield f"replay: {result.value / build.value:.2f} of a bulk build's rate, less than {REPLAYED}"
        if result.name.endswith("live latest") and result.value > LATE_MS:
            yield f"replay: live events are {result.value:.0f} ms late, more than {LATE_MS:.0f}"


def _too_few_relayed(ours: Sequence[Result]) -> Iterator[str]:
    relayed = [result for result in ours if result.workload == "outbox"]
    if relayed and (best := max(relayed, key=lambda result: result.value)).value < RELAYED:
        yield f"outbox: {best.name} relays {best.value:,.0f} rows a second, less than {RELAYED:,}"


def _too_large(ours: Sequence[Result]) -> Iterator[str]:
    for result in ours:
        if result.workload == "w4" and result.unit == "MB" and result.value > MEMORY:
            yield f"{result.workload}: {result.name} takes {result.value:,.0f} MB, more than {MEMORY:.0f}"
