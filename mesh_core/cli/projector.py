"""`mesh projector`: the process that turns events into rows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import typer

from mesh_core.cli.signals import on_signals

if TYPE_CHECKING:
    from mesh_core.cli.surroundings import Surroundings


def register(app: typer.Typer) -> None:
    """Adds the command `projector`."""
    app.command("projector")(projector)


def projector() -> None:
    """Turn events into rows until SIGTERM or SIGINT; run several to share the partitions.

    Waits for Kafka and Postgres. Metrics and readiness are on MESH_PROJECTOR_METRICS_PORT.

    Example: mesh projector
    """
    import psycopg

    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.collecting import rarely_collected
    from mesh_core.engine.projector import Projector
    from mesh_core.errors import DependencyUnavailable
    from mesh_core.telemetry import configure_logging, get_logger, metrics_served

    mesh = find_surroundings()
    configure_logging(mesh.settings)
    running = Projector(mesh.settings, mesh.database_url, mesh.driver)
    stopping = threading.Event()

    def stop() -> None:
        stopping.set()
        running.stop()

    on_signals(stop)

    def halted() -> list[str]:
        return [f"{topic}: {why}" for topic, why in running.halted.items()]

    try:
        with metrics_served(mesh.settings.projector_metrics_port, halted), rarely_collected():
            if _kafka_answers(mesh, stopping):
                running.run()
    except (DependencyUnavailable, psycopg.OperationalError) as error:
        # While it waits for a dependency, being stopped is how it ends.
        if not stopping.is_set():
            raise
        get_logger(__name__).info("stopped while waiting", cause=str(error).split("\n")[0])
    get_logger(__name__).info("stopped")


def _kafka_answers(mesh: Surroundings, stopping: threading.Event) -> bool:
    """Waits for Kafka; False if it was told to stop before."""
    from mesh_core.engine.backoff import Backoff
    from mesh_core.telemetry import get_logger

    backoff = Backoff()
    while not mesh.driver.reachable():
        seconds = backoff.next()
        get_logger(__name__).warning(
            "waiting",
            cause="kafka",
            servers=mesh.addresses.kafka_bootstrap_servers,
            seconds=round(seconds, 2),
        )
        if stopping.wait(seconds):
            return False
    return not stopping.is_set()
