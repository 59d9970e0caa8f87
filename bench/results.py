"""What the benchmarks found: as data, as a table, as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.filling import DRIVERS
from bench.harness import Kind

FOLDER = Path(__file__).parent / "results"
TWO = "two processes"
_PARTIAL = "-partial"


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

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Result:
        """What `as_data` made."""
        return cls(**{**data, "runs": tuple(data["runs"])})

    @property
    def said(self) -> str:
        """The median for people."""
        return said(self.value, self.unit)

    @property
    def driver(self) -> str:
        """The client that the contender consumes with; empty where it is no choice of its own."""
        return next((driver for driver in DRIVERS if driver in self.name), "")

    @property
    def aspect(self) -> str:
        """Which of a workload's figures this is, such as `p99`: what stands behind the driver."""
        found = re.search(r"(?:^|, )((?:(?:row|page) )?(?:p\d+|rate)|\d+x(?: memory| level)?)$", self.name)
        return found[1] if found else ""

    @property
    def bulk(self) -> bool:
        """Whether history is read as a whole, in contrast to event by event."""
        return "bulk" in self.name


def said(value: float, unit: str) -> str:
    """A value for people, with as many digits as mean something."""
    return f"{value:,.1f}" if unit == "ms" else f"{value:,.0f}"


def floor_of(result: Result, results: Sequence[Result]) -> Result | None:
    """The straight script in one process that did the same: on the same driver, else on the fastest."""
    same = [
        floor
        for floor in results
        if floor.kind == "floor"
        and (floor.workload, floor.aspect, floor.bulk) == (result.workload, result.aspect, result.bulk)
        and TWO not in floor.name
        and result.driver in ("", floor.driver)
    ]
    return max(same, key=lambda floor: -floor.value if floor.unit == "ms" else floor.value, default=None)


def with_levels(results: Sequence[Result]) -> list[Result]:
    """These, and after each rate of a workload that grew how much that is of the rate at 1x."""
    small = {
        (result.workload, result.name.removesuffix(", 1x")): result.value
        for result in results
        if (result.aspect, result.unit) == ("1x", "events/s")
    }
    found = []
    for result in results:
        found.append(result)
        before = small.get((result.workload, result.name.removesuffix(f", {result.aspect}")))
        if before and result.unit == "events/s" and result.aspect != "1x":
            level = [100 * run / before for run in result.runs]
            found.append(Result.of(result.workload, f"{result.name} level", result.kind, "% of 1x", level))
    return found


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows for people; the last column compares with the floor of the same job and driver."""
    rows = []
    for result in results:
        floor = floor_of(result, results)
        rows.append(
            [
                result.workload,
                result.name,
                result.kind,
                result.said,
                f"{said(min(result.runs), result.unit)}–{said(max(result.runs), result.unit)}",
                result.unit,
                "" if floor is None else f"{result.value / floor.value:.2f}",
            ]
        )
    return ["workload", "name", "kind", "median", "spread", "unit", "of floor"], rows


def as_data(results: Sequence[Result]) -> list[dict[str, object]]:
    """The list that `--json` prints."""
    return [asdict(result) for result in results]


def write(results: Sequence[Result], *, partial: bool = False) -> Path:
    """Keeps the list in a file named by the time and the workloads; `partial` if not everybody took part."""
    FOLDER.mkdir(exist_ok=True)
    names = "-".join(sorted({result.workload.replace(" ", "_") for result in results}))
    names += _PARTIAL if partial else ""
    path = FOLDER / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{names}.json"
    path.write_text(json.dumps(as_data(results), indent=2) + "\n")
    return path


def newest() -> list[Result]:
    """Of every workload what the last whole run says, in the order of workloads."""
    found: dict[str, list[Result]] = {}
    for path in sorted(path for path in FOLDER.glob("*.json") if not path.stem.endswith(_PARTIAL)):
        by_workload: dict[str, list[Result]] = {}
        for data in json.loads(path.read_text()):
            by_workload.setdefault(data["workload"], []).append(Result.from_data(data))
        found |= by_workload
    return [result for workload in sorted(found) for result in found[workload]]
