"""`mesh bench`: the benchmarks, side by side with their floors and peers."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer

from mesh_core.cli.output import Json, print_json, print_table
from mesh_core.errors import UsageError
from mesh_core.settings import ROOT


def register(app: typer.Typer) -> None:
    """Adds the command `bench`."""
    app.command("bench")(bench)


def bench(
    workloads: Annotated[list[str] | None, typer.Argument(help="Which; all of them by default.")] = None,
    as_json: Json = False,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each contender; medians are told.")] = 3,
    only: Annotated[
        str, typer.Option(help="Only the contender of this name, or all with this in their name.")
    ] = "",
    memory: Annotated[
        bool, typer.Option("--memory", help="Peak memory on a topic and on one ten times as long, instead.")
    ] = False,
) -> None:
    """Measure on a local stack of its own, gone afterwards; every row is checked.

    Exits with 1 if something of ours is slower or larger than it may be.

    Example: mesh bench w1
    """
    run, results, limits = _load("bench.run"), _load("bench.results"), _load("bench.limits")

    def say(line: str) -> None:
        typer.echo(line, err=True)

    found = []
    for part in (
        [run.memory(runs, only or "incremental", say)]
        if memory
        else run.figures(workloads or [], runs, only, say)
    ):
        # At once: what comes after may fail, and the whole takes its time.
        say(f"kept in {results.write(part, partial=bool(memory or only))}")
        found += part
    if as_json:
        print_json(results.as_data(found))
    else:
        print_table(*results.table(found))
    if not (memory or only):
        say(f"drawn in {_load('bench.chart').write()}")
    for shortfall in (slow := limits.shortfalls(found)):
        say(shortfall)
    if slow:
        raise typer.Exit(1)


def _load(module: str) -> Any:
    """A module of the benchmarks, which come with the source, not with the installed package."""
    if not (ROOT / "bench").is_dir():
        raise UsageError(
            "The benchmarks are not installed.", remedy="Run them in a checkout of the source: ./mesh bench."
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(module)
