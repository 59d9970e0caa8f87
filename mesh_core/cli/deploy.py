"""`mesh deploy`: the read models as the catalog declares them."""

from __future__ import annotations

from dataclasses import asdict

import typer

from mesh_core.cli.output import Json, print_json, print_table


def register(app: typer.Typer) -> None:
    """Adds the command `deploy`."""
    app.command("deploy")(deploy)


def deploy(as_json: Json = False) -> None:
    """Build what is new or changed in the catalog, and let it serve; what is unchanged is left alone.

    Missing topics are made. What the catalog no longer has goes on serving.

    Example: MESH_CATALOG=projections.northwind mesh deploy
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.deploy import Topics
    from mesh_core.engine.deploy import deploy as make_so
    from mesh_core.model import Catalog

    mesh = find_surroundings()
    settings = mesh.settings
    report = make_so(
        mesh.database_url,
        Catalog.load(settings.catalog),
        mesh.reachable_driver(),
        Topics(settings.topic_partitions, settings.topic_replication),
        lambda line: typer.echo(line, err=True),
    )
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json({**asdict(report), "changed": report.changed})
    else:
        rows = [[step.kind, step.name, step.change, step.relation, step.rows] for step in report.steps]
        print_table(["kind", "name", "change", "table", "rows"], rows)
