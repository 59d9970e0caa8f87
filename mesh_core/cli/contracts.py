"""`mesh contracts`: what events look like, and what a change of that would break."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mesh_core.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesh_core.contracts import Change
    from mesh_core.engine.trying import Broken, Trial
    from mesh_core.model import Catalog, Contract

Against = Annotated[
    Path | None,
    typer.Option(
        help="A folder that `mesh contracts export` wrote, such as that of the main branch; by default what live "
        "entities fold."
    ),
]
Registered = Annotated[
    bool, typer.Option("--registered", help="Those too that services have registered over HTTP.")
]
_TELLING = 20


def register(app: typer.Typer) -> None:
    """Adds the group `contracts`."""
    group = typer.Typer(
        no_args_is_help=True, help="Contracts of events: write them down, compare them, try changes."
    )
    group.command("export")(export)
    group.command("diff")(diff)
    group.command("check")(check)
    app.add_typer(group, name="contracts")


def export(
    to: Annotated[Path, typer.Option(help="Folder to write into; it is made.")],
    registered: Registered = False,
    as_json: Json = False,
) -> None:
    """Write the JSON Schema of each payload as TYPE.json, and asyncapi.json of all topics.

    The same contracts give the same bytes. Files of types that are gone are removed; others are left as they are.

    Example: mesh contracts export --to contracts
    """
    from mesh_core.cli.contract_files import write
    from mesh_core.model import Catalog
    from mesh_core.settings import load_settings

    contracts = _now(Catalog.load(load_settings().catalog), registered)
    write(to, contracts.values())
    if as_json:
        print_json({"folder": str(to), "types": sorted(contracts)})
    else:
        typer.echo(f"Wrote {len(contracts)} contracts and asyncapi.json to {to}.")


def diff(against: Against = None, registered: Registered = False, as_json: Json = False) -> None:
    """Print how the contracts of the code differ from those before, and what each difference breaks.

    Example: mesh contracts diff --against contracts
    """
    from mesh_core.contracts import differences
    from mesh_core.model import Catalog
    from mesh_core.settings import load_settings

    now = _now(Catalog.load(load_settings().catalog), registered)
    changes = differences(_before(against).values(), now.values())
    if as_json:
        print_json([asdict(change) for change in changes])
    else:
        _print(changes)


def check(
    against: Against = None,
    mode: Annotated[
        Literal["backward", "forward", "full"],
        typer.Option(
            help="backward: what was published is read by the new contracts; forward: what will be published is read "
            "by the old ones; full: both."
        ),
    ] = "full",
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many of the last events of each topic are tried on the new contracts and what they feed; 0: none.",
        ),
    ] = 1000,
    registered: Registered = False,
    as_json: Json = False,
) -> None:
    """Say whether the contracts of the code may take the place of those before; exit status 1 if they would break others.

    What is compared is docs/reference/contracts.md's table; then real events are read by the new contracts, folded and
    joined in a transaction that is rolled back. A pipeline with neither Kafka nor Postgres says --samples 0.

    Example: mesh contracts check --against contracts --mode backward
    """
    from mesh_core.contracts import differences
    from mesh_core.model import Catalog
    from mesh_core.settings import load_settings

    catalog = Catalog.load(load_settings().catalog)
    before = _before(against)
    changes = differences(before.values(), _now(catalog, registered).values())
    breaking = [(change, why) for change in changes if (why := change.breaks(mode))]
    trial = _tried(catalog, before, samples) if samples else None
    fine = not breaking and not (trial and trial.broken)
    if as_json:
        print_json(
            {
                "compatible": fine,
                "mode": mode,
                "changes": [asdict(change) | {"breaks": change.breaks(mode)} for change in changes],
                "samples": trial and _told(trial),
            }
        )
    else:
        _print(changes)
        for change, why in breaking:
            typer.echo(f"breaks: {change.type}: {change.what}: {why}")
        if trial:
            _print_trial(trial)
        typer.echo(f"Compatible ({mode})." if fine else f"Not compatible ({mode}).")
    if not fine:
        raise typer.Exit(1)


def _tried(catalog: Catalog, before: Mapping[str, Contract], most: int) -> Trial:
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.trying import attempt, samples

    mesh = find_surroundings()
    topics = {contract.topic for contract in _own(catalog).values()}
    found = samples(mesh.reachable_driver(), topics, most)
    return attempt(mesh.database_url, catalog, before.values(), found)


def _now(catalog: Catalog, registered: bool) -> dict[str, Contract]:
    """The contracts of the code, and with `registered` those of services that have registered theirs."""
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.store.connections import connect
    from mesh_core.store.registrations import registered_contracts

    if not registered:
        return _own(catalog)
    with connect(find_surroundings().database_url, "mesh contracts") as connection:
        return registered_contracts(connection) | _own(catalog)


def _own(catalog: Catalog) -> dict[str, Contract]:
    from mesh_core.model.builtin import MESH_SERVICE

    return {name: each for name, each in catalog.contracts.items() if each.service != MESH_SERVICE}


def _before(against: Path | None) -> dict[str, Contract]:
    from mesh_core.cli.contract_files import read
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.model.builtin import MESH_SERVICE
    from mesh_core.store.connections import connect
    from mesh_core.store.registrations import folded_contracts

    if against is not None:
        return read(against)
    with connect(find_surroundings().database_url, "mesh contracts") as connection:
        found = folded_contracts(connection)
    return {name: each for name, each in found.items() if each.service != MESH_SERVICE}


def _print(changes: list[Change]) -> None:
    if not changes:
        typer.echo("No contract differs.")
        return
    titles = ["type", "field", "change", "backward", "forward"]
    print_table(
        titles,
        [
            [
                change.type,
                change.path or None,
                change.what,
                "breaks" if change.backward else "ok",
                "breaks" if change.forward else "ok",
            ]
            for change in changes
        ],
    )


def _print_trial(trial: Trial) -> None:
    typer.echo(
        f"Tried {trial.records} events of the log; {trial.refused_now} are refused now already, {len(trial.broken)} would be."
    )
    alike: dict[str, list[Broken]] = {}
    for each in trial.broken:
        alike.setdefault(f"{each.type or each.name or '-'}: {each.reason}: {each.detail}", []).append(each)
    for why, (first, *others) in islice(alike.items(), _TELLING):
        place = f"{first.partition} offset {first.offset}" if first.offset >= 0 else "all samples together"
        more = f" and {len(others)} more" if others else ""
        typer.echo(f"would be refused: {place}{more}: {why}")
    if len(alike) > _TELLING:
        typer.echo(f"… and for {len(alike) - _TELLING} more reasons.")


def _told(trial: Trial) -> dict[str, Any]:
    return {
        "records": trial.records,
        "refused_now": trial.refused_now,
        "broken": [
            asdict(each)
            | {"partition": {"topic": each.partition.topic, "partition": each.partition.partition}}
            for each in trial.broken
        ],
    }
