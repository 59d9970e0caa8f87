"""Flexmesh itself as a contender: `mesh projector`, with a note of when it began.

    python -m bench.ours prepare   # deploys as if topics were empty still, so that all is left to the projector
    python -m bench.ours           # projects
    python -m bench.ours deploy    # deploys on full topics, as `mesh deploy` does, then projects; both is measured

The note is taken before anything connects, so joining a consumer group counts. `BENCH_PROFILE=FILE` keeps a
profile of the main thread, for `python -m pstats FILE`.
"""

from __future__ import annotations

import cProfile
import importlib
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import cast

from bench.harness import BEGAN
from mesh_core.cli.main import create_app, main
from mesh_core.cli.surroundings import find_surroundings
from mesh_core.engine.deploy import Topics, Wishes, deploy
from mesh_core.log import Consumer, Driver, TopicPartition
from mesh_core.model import Catalog


class BeforeEvents:
    """A consumer that sees every topic as it was before anything was published."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def __getattr__(self, name: str) -> object:
        return getattr(self._consumer, name)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.end_offsets`."""
        return self._consumer.beginning_offsets(partitions)


class EarlyDriver:
    """A driver to such a Kafka."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)

    def consumer(self, group: str | None = None, instance_id: str | None = None) -> Consumer:
        """See `Driver.consumer`."""
        return cast(Consumer, BeforeEvents(self._driver.consumer(group, instance_id)))


def build(*, early: bool) -> None:
    """What `mesh deploy` does, or did before the events were published."""
    mesh = find_surroundings()
    settings = mesh.settings
    driver = mesh.reachable_driver()
    deploy(
        mesh.database_url,
        Catalog.load(settings.catalog),
        cast(Driver, EarlyDriver(driver)) if early else driver,
        Topics(settings.topic_partitions, settings.topic_replication),
        wishes=Wishes(processes=settings.build_processes),
    )


def run(*, deploying: bool) -> None:
    """Projects until it is terminated."""
    # Starting Python is not consuming; the straight scripts do not count it either.
    for module in ("mesh_core.engine.projector", f"mesh_core.log.{_package()}.consumer"):
        importlib.import_module(module)
    create_app()
    Path(os.environ[BEGAN]).write_text(str(time.time()))
    if deploying:
        build(early=False)
    sys.argv = ["mesh", "projector"]
    main()


def _package() -> str:
    return "confluent" if os.environ["MESH_KAFKA_DRIVER"] == "confluent-kafka" else "kafka_python"


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["prepare"]:
        build(early=True)
    elif file := os.environ.get("BENCH_PROFILE"):
        profile = cProfile.Profile()
        try:
            profile.runcall(run, deploying=arguments == ["deploy"])
        finally:
            profile.dump_stats(file)
    else:
        run(deploying=arguments == ["deploy"])
