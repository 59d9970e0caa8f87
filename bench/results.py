"""What the benchmarks found: as data, as a table, as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.harness import Kind

FOLDER = Path(__file__).parent / "results"
LEAST = {"w1": 0.4}
"""The share of its floor, on the same driver and in the same run, that ours must reach."""


@dataclass(frozen=True)
class Result:
    """One contender on one workload. `value` is the median of `runs`, all in `unit`."""

    workload: str
    name: str
    kind: Kind
    value: float
    unit: str
    runs: tuple[float, ...]

    @classmethod
    def of(cls, workload: str, name: str, kind: Kind, unit: str, runs: Sequence[float]) -> Result:
        """From the runs alone."""
        return cls(workload, name, kind, round(median(runs), 1), unit, tuple(round(run, 1) for run in runs))

    @property
    def driver(self) -> str:
        """The client that the contender consumes with: the last word of its name."""
        return self.name.rsplit(" ", 1)[-1]


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows for people; the last column compares with the floor of the same workload and driver."""
    floors = {(r.workload, r.driver): r.value for r in results if r.kind == "floor"}
    rows = []
    for result in results:
        floor = floors.get((result.workload, result.driver))
        rows.append(
            [
                result.workload,
                result.name,
                result.kind,
                f"{result.value:,.0f}",
                f"{min(result.runs):,.0f}–{max(result.runs):,.0f}",
                result.unit,
                "" if floor is None else f"{result.value / floor:.2f}",
            ]
        )
    return ["workload", "name", "kind", "median", "spread", "unit", "of floor"], rows


def shortfalls(results: Sequence[Result]) -> list[str]:
    """What of ours is slower than it may be, in words."""
    floors = {(r.workload, r.driver): r.value for r in results if r.kind == "floor"}
    found = []
    for result in results:
        floor, least = floors.get((result.workload, result.driver)), LEAST.get(result.workload)
        if result.kind == "ours" and floor and least and result.value < least * floor:
            found.append(
                f"{result.workload}: {result.name} reaches {result.value / floor:.2f} of its floor, less than {least}"
            )
    return found


def as_data(results: Sequence[Result]) -> list[dict[str, object]]:
    """The list that `--json` prints."""
    return [asdict(result) for result in results]


def write(results: Sequence[Result]) -> Path:
    """Keeps the list in a file named by the time and the workloads."""
    FOLDER.mkdir(exist_ok=True)
    names = "-".join(sorted({result.workload.replace(" ", "_") for result in results}))
    path = FOLDER / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{names}.json"
    path.write_text(json.dumps(as_data(results), indent=2) + "\n")
    return path
