"""`mesh plan`, `deploy`, `rebuild`, `rollback`, `prune`: the read models as the catalog declares them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_core.cli.output import Json, print_json, print_table
from mesh_core.cli.progress import progress_lines

if TYPE_CHECKING:
    from mesh_core.engine.deploy import DeployReport
    from mesh_core.store.versions import VersionRow

RequireEqual = Annotated[
    bool, typer.Option("--require-equal", help="Do not swap if new rows differ from those that serve.")
]
AcceptTruncated = Annotated[
    bool, typer.Option("--accept-truncated", help="Build from a log that has lost its beginning.")
]
SeedFromLive = Annotated[
    bool,
    typer.Option(
        "--seed-from-live", help="Where a log has lost its beginning, begin with the rows that serve."
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (plan, deploy, rebuild, rollback, prune):
        app.command(command.__name__)(command)


def plan(as_json: Json = False) -> None:
    """What a deploy would do: what is new, changed or unused, what each step would read, and about how long it takes.

    Exit status 1 if there is anything to do. Times are estimated from earlier builds of this mesh, where there are any.

    Example: MESH_CATALOG=projections.northwind mesh plan
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.estimating import estimate
    from mesh_core.model import Catalog

    mesh = find_surroundings()
    found = estimate(mesh.database_url, Catalog.load(mesh.settings.catalog), mesh.history_driver())
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json([asdict(cost) for cost in found.costs])
    else:
        titles = ["kind", "name", "change", "what differs", "reads", "events", "rows", "seconds"]
        print_table(
            titles,
            [
                [
                    cost.kind,
                    cost.name,
                    cost.change,
                    ", ".join(cost.details) or None,
                    ", ".join(cost.reads) or None,
                    cost.events,
                    cost.rows,
                    None if cost.seconds is None else f"{cost.seconds:.1f}",
                ]
                for cost in found.costs
            ],
        )
    if any(cost.change not in ("unchanged", "unused") for cost in found.costs):
        raise typer.Exit(1)


def deploy(
    require_equal: RequireEqual = False,
    accept_truncated: AcceptTruncated = False,
    seed_from_live: SeedFromLive = False,
    as_json: Json = False,
) -> None:
    """Build what is new or changed in the catalog beside what serves, compare, and swap it in.

    Missing topics are made. What the catalog no longer has goes on serving. The versions that served are kept up for a
    rollback until the next deploy.

    Example: MESH_CATALOG=projections.northwind mesh deploy
    """
    _deploy((), require_equal, accept_truncated, seed_from_live, as_json)


def rebuild(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Views, or entities as service.entity.")],
    require_equal: RequireEqual = False,
    accept_truncated: AcceptTruncated = False,
    seed_from_live: SeedFromLive = False,
    as_json: Json = False,
) -> None:
    """Build versions anew beside the live ones, though their declarations are the same, compare, and swap them in.

    Refused while the catalog has changes that are not deployed.

    Example: mesh rebuild order_overview --require-equal
    """
    _deploy(names, require_equal, accept_truncated, seed_from_live, as_json)


def _deploy(
    names: Collection[str], require_equal: bool, accept_truncated: bool, seed_from_live: bool, as_json: bool
) -> None:
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.deploy import Topics, Wishes
    from mesh_core.engine.deploy import deploy as make_so
    from mesh_core.model import Catalog

    mesh = find_surroundings()
    settings = mesh.settings
    catalog = Catalog.load(settings.catalog)
    show = progress_lines()
    try:
        report = make_so(
            mesh.database_url,
            catalog,
            mesh.history_driver(),
            Topics(settings.topic_partitions, settings.topic_replication),
            show,
            Wishes(
                names,
                require_equal,
                accept_truncated,
                seed_from_live,
                settings.build_processes,
                nothing_else=bool(names),
            ),
        )
    except KeyboardInterrupt:
        show("")
        typer.echo("Interrupted. What serves is whole; the next deploy begins anew.", err=True)
        raise
    show("")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json({**asdict(report), "changed": report.changed})
    else:
        _show(report)


def _show(report: DeployReport) -> None:
    rows = [
        [step.kind, step.name, step.change, ", ".join(step.details) or None, step.relation, step.rows]
        for step in report.steps
    ]
    print_table(["kind", "name", "change", "what differs", "table", "rows"], rows)
    if not report.proofs:
        return
    typer.echo("\nCompared with what served until now, over the columns that both have:\n")
    print_table(
        ["name", "rows", "equal", "different", "missing", "unexpected", "pending", "such as"],
        [
            [
                proof.name,
                proof.rows,
                ("yes" if proof.equal else "no") if proof.columns else "other key",
                proof.different,
                proof.missing,
                proof.unexpected,
                proof.pending,
                ", ".join("/".join(map(str, key)) for key in proof.samples[:3]) or None,
            ]
            for proof in report.proofs
        ],
    )


def rollback(as_json: Json = False) -> None:
    """Let the versions before the last deploy serve again, at once; the newer ones are kept up in their turn.

    Refused while somebody deploys.

    Example: mesh rollback
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.swapping import rollback as go_back

    rows = go_back(find_surroundings().database_url)
    if as_json:
        print_json([_facts(row) for row in rows])
    else:
        print_table(["kind", "name", "serves now"], [[row.kind, row.name, row.relation] for row in rows])


def prune(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="What still serves, though the catalog no longer has it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Drop versions that do not serve any more, and what interrupted builds and replays left; there is no rollback afterwards.

    Exit status 1 if something could not be dropped.

    Example: mesh prune --dry-run
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.pruning import prune_all
    from mesh_core.model import Catalog

    mesh = find_surroundings()
    catalog, show = Catalog.load(mesh.settings.catalog), progress_lines()
    pruned = prune_all(mesh.database_url, catalog, names or (), show, dry_run=dry_run)
    show("")
    if as_json:
        print_json(
            {
                "pruned": [_facts(row) for row in pruned.rows],
                "orphans": pruned.orphans,
                "replays": pruned.replays,
                "left": pruned.left,
            }
        )
    else:
        rows: list[list[object]] = [[row.kind, row.name, row.relation, row.state] for row in pruned.rows]
        rows += [["table", None, name, "left by an interrupted build"] for name in pruned.orphans]
        rows += [["replay", name, None, "interrupted"] for name in pruned.replays]
        if rows:
            print_table(["kind", "name", "table", "was"], rows)
        else:
            typer.echo("There is nothing to prune.")
        for line in pruned.left:
            typer.echo(f"left: {line}", err=True)
    if pruned.left:
        raise typer.Exit(1)


def _facts(row: VersionRow) -> dict[str, object]:
    return {"kind": row.kind, "name": row.name, "number": row.number, "table": row.relation, "was": row.state}
