"""`mesh status`: what is deployed or being built, how far it is behind, what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh_core.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from mesh_core.cli.lag import Lag
    from mesh_core.log import TopicPartition
    from mesh_core.read import MeshStatus


def register(app: typer.Typer) -> None:
    """Adds the command `status`."""
    app.command("status")(status)


def status(
    settings: Annotated[
        bool, typer.Option("--settings", help="Show all settings instead, secrets masked.")
    ] = False,
    partitions: Annotated[bool, typer.Option("--partitions", help="Show each partition of a topic.")] = False,
    as_json: Json = False,
) -> None:
    """Versions, lag in events and seconds, dead letters, halts, the last deploy and the builds of one under way.

    Exit status 1 while a topic is halted, 3 if Kafka does not answer (the rest is shown all the same).

    Example: mesh status --partitions
    """
    from mesh_core.cli.lag import measure
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.log import LogUnavailable
    from mesh_core.read import mesh_status

    if settings:
        _show_settings(as_json)
        return
    mesh = find_surroundings()
    found = mesh_status(mesh.database_url)
    lags: dict[TopicPartition, Lag] = {}
    failure: LogUnavailable | None = None
    try:
        lags = measure(mesh.reachable_driver(), found.position)
    except LogUnavailable as error:
        failure = error
    facts = describe(found, lags)
    if as_json:
        print_json(facts)
    else:
        _show(facts, partitions)
    if failure is not None:
        raise failure
    if any(topic["halted"] for topic in facts["topics"]):
        raise typer.Exit(1)


def describe(found: MeshStatus, lags: Mapping[TopicPartition, Lag]) -> dict[str, Any]:
    """All facts as plain data; a lag that is not known is None."""
    from mesh_core.log import TopicPartition
    from mesh_core.read.catalogue import fan_out_pending

    partitions = [
        {
            **asdict(row),
            "lag_events": lag.events if lag else None,
            "lag_seconds": lag.seconds if lag else None,
        }
        for row in found.checkpoints
        for lag in [lags.get(TopicPartition(row.topic, row.partition))]
    ]
    names = sorted({row.topic for row in found.checkpoints})
    topics = [
        {"topic": name, **_total([row for row in partitions if row["topic"] == name])} for name in names
    ]
    by_name = {topic["topic"]: topic for topic in topics}
    filling = {(row.kind, row.name, row.number): row.lag_events for row in found.builds}
    versions = []
    for version in found.versions:
        row = {**asdict(version), **_worst([by_name[topic] for topic in version.topics if topic in by_name])}
        if version.state in ("building", "queued"):  # what is live is not behind what it has not read yet
            lag = filling.get((version.kind, version.name, version.number))
            row |= {"lag_events": lag, "lag_seconds": None}
        versions.append(row)
    for row in versions:
        if row["stale"] is None and row["fan_out_since"] is not None:
            row["stale"] = fan_out_pending(row["fan_out_since"].isoformat())
    return {
        "generation": found.generation,
        "versions": versions,
        "topics": topics,
        "partitions": partitions,
        "held": [asdict(row) for row in found.held],
        "deploy": None if found.deploy is None else asdict(found.deploy),
        "builds": [asdict(row) for row in found.builds],
        "grants": list(found.grants),
    }


MOST_NAMES = 4
"""How many names a cell has room for."""
COUNTS = ("consumed", "applied", "ignored", "dead_lettered", "parked")


def _total(rows: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    reasons = [row["halted_reason"] for row in rows if row["halted_reason"]]
    return {
        "partitions": len(rows),
        **{name: sum(row[name] for row in rows) for name in COUNTS},
        **_lag(rows),
        "halted": reasons[0] if reasons else None,
    }


def _worst(topics: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    reasons = [topic["halted"] for topic in topics if topic["halted"]]
    return {**_lag(topics), "stale": reasons[0] if reasons else None}


def _lag(rows: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    events = [row["lag_events"] for row in rows]
    seconds = [row["lag_seconds"] for row in rows]
    return {
        "lag_events": None if None in events else sum(events),
        "lag_seconds": None if None in seconds else max(seconds, default=0.0),
    }


def _show(facts: Mapping[str, Any], each_partition: bool) -> None:
    _section(facts["versions"], ["kind", "name", "number", "state", "lag_events", "lag_seconds", "stale"])
    if each_partition:
        columns = ["topic", "partition", "next_offset", *COUNTS, "lag_events", "lag_seconds", "halted_reason"]
        _section(facts["partitions"], columns)
    else:
        columns = ["topic", "partitions", *COUNTS, "lag_events", "lag_seconds", "halted"]
        _section(facts["topics"], columns)
    if facts["held"]:
        _section(facts["held"], ["topic", "status", "reason", "events"])
    else:
        typer.echo("no dead letters")
    typer.echo()
    if deploy := facts["deploy"]:
        changes = deploy["changes"]
        more = f" and {len(changes) - MOST_NAMES} more" if len(changes) > MOST_NAMES else ""
        named = ", ".join(changes[:MOST_NAMES]) + more
        shown = {**deploy, "deploy": deploy["state"], "changes": named or None}
        _section([shown], ["deploy", "started_by", "started_at", "finished_at", "changes", "detail"])
    if facts["builds"]:
        columns = ["percent", "events_per_second", "seconds_left"]
        rounded = [
            {**row, **{name: None if row[name] is None else f"{row[name]:,.0f}" for name in columns}}
            for row in facts["builds"]
        ]
        _section(rounded, ["kind", "name", "number", "state", "done", "total", *columns, "lag_events"])
    for without_effect in facts["grants"]:
        typer.echo(without_effect)


def _section(rows: Collection[Mapping[str, Any]], columns: list[str]) -> None:
    titles = [column.replace("_", " ") for column in columns]
    print_table(titles, [[row[column] for column in columns] for row in rows])
    typer.echo()


def _show_settings(as_json: bool) -> None:
    from mesh_core.settings import load_settings

    rows = load_settings().describe()
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(
            ["setting", "value", "default", "what it is"],
            [[row.variable, row.value or None, row.default or None, row.description] for row in rows],
        )
