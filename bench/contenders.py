"""Who competes, as the harness wants it: straight scripts, Flexmesh itself, a hand-written projector."""

from __future__ import annotations

from collections.abc import Mapping

from bench.floor.writing import PROGRESS
from bench.harness import Contender, Kind, run_module

HAND_WRITTEN = "hand-written, 100 events a transaction,"

FINAL = (
    "(SELECT coalesce(sum(next_offset), 0) FROM mesh.checkpoints WHERE build = 0 "
    "AND NOT EXISTS (SELECT FROM mesh.fan_out))"
)
"""Events that are in our tables for good: a view is not final before the fan-out queue is empty, and says so."""


def script(
    name: str, module: str, driver: str, rows: str, kind: Kind = "floor", *arguments: str
) -> Contender:
    """A script of ours that keeps its offsets in `checkpoint`. `name` is completed by the driver."""
    return Contender(
        name=f"{name} {driver}",
        kind=kind,
        command=("-m", module, *arguments),
        progress=PROGRESS,
        rows=rows,
        prepare=lambda environment: run_module(environment, module, "prepare"),
        environment={"MESH_KAFKA_DRIVER": driver},
    )


def incremental(driver: str, catalog: str, relation: str, columns: str) -> Contender:
    """`mesh projector`, after a deploy before the events came."""

    def deploy(environment: Mapping[str, str]) -> None:
        run_module(environment, "mesh_core.cli", "migrate")
        run_module(environment, "bench.ours", "prepare")

    return Contender(
        name=f"incremental {driver}",
        kind="ours",
        command=("-m", "bench.ours"),
        progress=f"SELECT {FINAL}",
        rows=f"SELECT {columns} FROM read.{relation}",
        prepare=deploy,
        environment=_environment(driver, catalog),
    )


def bulk(driver: str, catalog: str, relation: str, columns: str) -> Contender:
    """`mesh deploy` on topics that are full, then `mesh projector` for what it left."""
    return Contender(
        name=f"bulk {driver}",
        kind="ours",
        command=("-m", "bench.ours", "deploy"),
        progress=f"SELECT CASE WHEN to_regclass('read.{relation}') IS NULL THEN 0 ELSE {FINAL} END",
        rows=f"SELECT {columns} FROM read.{relation}",
        prepare=lambda environment: run_module(environment, "mesh_core.cli", "migrate"),
        environment=_environment(driver, catalog),
    )


def _environment(driver: str, catalog: str) -> dict[str, str]:
    return {"MESH_KAFKA_DRIVER": driver, "MESH_CATALOG": catalog, "MESH_PROJECTOR_METRICS_PORT": "0"}
