"""`mesh relay`: publishes what services wrote to their outboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mesh_core.cli.signals import on_signals

if TYPE_CHECKING:
    from mesh_core.emit.relay import OutboxAddress
    from mesh_core.settings import Settings


def register(app: typer.Typer) -> None:
    """Adds the command `relay`."""
    app.command("relay")(relay)


def relay(
    outbox: Annotated[
        list[str] | None,
        typer.Option(help="SERVICE=postgresql://…[#[schema.]table]; again for another one."),
    ] = None,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="End once nothing waits.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements that make an outbox.")] = False,
    table: Annotated[str, typer.Option(help="With --sql: the name of its table.")] = "outbox",
) -> None:
    """Publish the events of outboxes until SIGTERM or SIGINT; a second relay of an outbox stands by.

    The outboxes are those of --outbox, else of MESH_RELAY_OUTBOXES. Waits for Kafka and Postgres. Metrics and
    readiness are on MESH_RELAY_METRICS_PORT.

    Example: mesh relay --outbox sales=postgresql://relay@localhost/sales
    """
    from mesh_core import stack
    from mesh_core.emit.outbox import outbox_sql
    from mesh_core.emit.relay import Relay
    from mesh_core.log import KafkaConfig
    from mesh_core.settings import load_settings
    from mesh_core.telemetry import configure_logging, get_logger, metrics, metrics_served

    if sql:
        typer.echo(outbox_sql(table), nl=False)
        return
    settings = load_settings()
    addresses = _addresses(outbox or [], settings)
    configure_logging(settings)
    running = Relay(
        addresses,
        KafkaConfig.from_settings(settings, stack.bootstrap_servers(settings)),
        retention_seconds=settings.relay_retention_seconds,
    )
    on_signals(running.stop)
    port, setting = settings.relay_metrics_port, "MESH_RELAY_METRICS_PORT"
    with metrics_served(port, running.problems, metrics.RELAY, setting):
        running.run(until_empty=until_empty)
    get_logger(__name__).info("stopped")


def _addresses(given: list[str], settings: Settings) -> list[OutboxAddress]:
    from mesh_core.emit.relay import OutboxAddress
    from mesh_core.errors import UsageError

    told = settings.relay_outboxes.get_secret_value().split() if settings.relay_outboxes else []
    found = [OutboxAddress.parse(each) for each in given or told]
    if not found:
        raise UsageError(
            "No outbox is named.", remedy="Give --outbox SERVICE=postgresql://…, or set MESH_RELAY_OUTBOXES."
        )
    if twice := [each.service for each in found if sum(each == other for other in found) > 1]:
        raise UsageError(f"The same outbox of {twice[0]} is named twice.", remedy="Name it once.")
    return found
