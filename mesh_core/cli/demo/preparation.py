"""What the demo does before it serves: start, migrate, deploy, publish, wait until all is projected."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from mesh_core import stack
from mesh_core.cli.demo.processes import Child, ProcessEnded
from mesh_core.cli.demo.served import get
from mesh_core.cli.surroundings import Surroundings
from mesh_core.emit import Publisher
from mesh_core.engine.deploy import Topics, deploy
from mesh_core.log import Position
from mesh_core.model import Catalog
from mesh_core.model.event import topic_of
from mesh_core.read import mesh_status
from mesh_core.settings import Settings
from mesh_core.store.migrate import migrate
from mesh_core.tokens import make_local_key

NORTHWIND = "projections.northwind"
PATIENCE_SECONDS = 60.0
Say = Callable[[str], None]


class NotProjected(ProcessEnded):
    """Not all events were projected in time."""


def start_services(settings: Settings) -> tuple[Surroundings, list[Callable[[], None]]]:
    """Start what is not running of Kafka and Postgres; also how to stop what was started."""
    path = settings.stack_path
    stops: list[Callable[[], None]] = []
    for given, service in (
        (settings.database_url, stack.postgres),
        (settings.kafka_bootstrap_servers, stack.kafka),
    ):
        if given is None and service.address(path) is None:
            stops.append(lambda service=service: service.stop(path))  # type: ignore[misc]
    if stops:
        stack.start(path)
    if settings.database_url is None:
        make_local_key(path)
    return Surroundings(settings, stack.resolve(settings)), stops


def catalog_of(settings: Settings) -> str:
    """The modules of the settings, Northwind among them."""
    modules = settings.catalog_modules
    return ",".join(modules if NORTHWIND in modules else (*modules, NORTHWIND))


def prepare_database(mesh: Surroundings, modules: str) -> None:
    """Migrate and deploy."""
    migrate(mesh.database_url)
    topics = Topics(mesh.settings.topic_partitions, mesh.settings.topic_replication)
    deploy(mesh.database_url, Catalog.load(modules), mesh.reachable_driver(), topics)


def publish_history(mesh: Surroundings) -> int:
    """Publish Northwind's past unless its topics have it already; how many events were published."""
    events: list[dict[str, Any]] = list(importlib.import_module(f"{NORTHWIND}.history").events())
    wanted = Counter(topic_of(event["type"].split(".", 1)[0]) for event in events)
    there: Counter[str] = Counter()
    for partition, offset in log_end(mesh).offsets.items():
        there[partition.topic] += offset
    if all(there[topic] >= count for topic, count in wanted.items()):
        return 0
    with Publisher(mesh.driver, source="/northwind") as publisher:
        for event in events:
            publisher.publish_envelope(event)
    return len(events)


def log_end(mesh: Surroundings) -> Position:
    """Where the log of every topic that is projected ends now."""
    partitions = sorted(mesh_status(mesh.database_url).position.offsets)
    with mesh.driver.consumer() as consumer:
        return Position(consumer.end_offsets(partitions))


def wait_until_applied(mesh: Surroundings, projector: Child) -> None:
    """Wait until the live versions reflect all that is in the log now.

    Raises ProcessEnded if the projector does, or NotProjected after a minute or on a halt.
    """
    end, deadline = log_end(mesh), time.monotonic() + PATIENCE_SECONDS
    while not (status := mesh_status(mesh.database_url)).position.reaches(end):
        projector.check()
        halted = [row.halted_reason for row in status.checkpoints if row.halted_reason]
        if halted or time.monotonic() > deadline:
            raise NotProjected(
                halted[0] if halted else f"Not all events are projected after {PATIENCE_SECONDS:.0f} s.",
                remedy=f"See mesh status, and {projector.log}.",
            )
        time.sleep(0.05)


def wait_until_served(url: str, api: Child) -> None:
    """Wait until the API is ready. Raises ProcessEnded, or NotProjected after a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        api.check()
        try:
            get(f"{url}/readyz")
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise NotProjected(f"The API is not ready: {error}.", remedy=f"See {api.log}.") from error
        time.sleep(0.05)
