"""`mesh replay`: a view as of a moment, for whoever asks questions of the past; nothing that serves is touched."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_core.cli.output import Json, print_json, print_table
from mesh_core.cli.progress import progress_lines

if TYPE_CHECKING:
    from mesh_core.engine.replay import Difference


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("replay")(replay)


def replay(
    name: Annotated[str, typer.Argument(metavar="VIEW", help="The view that is wanted.")],
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of", metavar="TIME|POSITION", help="A day or time, a position as JSON, or now: what serves."
        ),
    ] = "now",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write FILE.parquet, .csv or .duckdb.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", metavar="NAME", help="Make a table in a schema of your own.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="key=…|workflow=…", help="Only these rows; may be repeated."),
    ] = None,
    declared: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE.py", help="As this file declares it, not as it serves."),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Compare with what serves, row by row.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Most that read at once [MESH_REPLAY_PROCESSES].")
    ] = None,
    disk: Annotated[
        int | None, typer.Option(min=1, help="Most bytes that its tables may take [MESH_REPLAY_DISK].")
    ] = None,
    accept_truncated: Annotated[
        bool, typer.Option("--accept-truncated", help="Replay what a log has that lost its beginning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """A view as it was: built in private, up to a moment, into a file or a schema of your own.

    What serves goes first and is never touched. Interrupted, it goes on where it was if you ask for the same again.

    Example: mesh replay order_overview --as-of 2017-01-01 --to orders.parquet
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.replay import (
        Only,
        Wishes,
        check_comparable,
        check_file,
        check_schema,
        compare,
        declared_in,
        live_declaration,
        move_to_schema,
        replayed,
        write_file,
    )
    from mesh_core.errors import UsageError
    from mesh_core.log.moment import parse_moment
    from mesh_core.store.connections import connect

    if to is None and schema is None and not diff:
        raise UsageError(
            "Nobody would see what is replayed.",
            remedy="Say where it goes, --to FILE or --schema NAME; or --diff.",
        )
    if to is not None:
        check_file(to)
    if schema is not None:
        check_schema(schema)
    mesh = find_surroundings()
    wishes = Wishes(
        None if as_of == "now" else parse_moment(as_of),
        Only.parse(only or []),
        processes or mesh.settings.replay_processes,
        disk or mesh.settings.replay_disk,
        accept_truncated,
    )
    driver = mesh.history_driver()
    with connect(mesh.database_url, "mesh replay") as connection:
        plan = declared_in(connection, declared, name) if declared else live_declaration(connection, name)
    if diff:
        check_comparable(plan.view, plan.live)
    _go_last()
    show, begun = progress_lines(), time.monotonic()
    difference, table = None, None
    try:
        with replayed(mesh.database_url, driver, plan, wishes, show) as found:
            if to is not None:
                show(f"writing {to}")
                write_file(found, to)
            if diff:
                show("comparing with what serves")
                difference = compare(found)
            if schema is not None:
                table = move_to_schema(found, schema)
    except KeyboardInterrupt:
        show("")
        typer.echo(
            "Interrupted. Ask for the same again and it goes on; mesh prune drops what it has.", err=True
        )
        raise
    show("")
    facts = {
        "view": name,
        "position": found.position.to_json(),
        "rows": found.rows,
        "events": found.events,
        "resumed": found.resumed,
        "seconds": round(time.monotonic() - begun, 3),
        "file": None if to is None else str(to),
        "table": table,
    }
    if as_json:
        print_json({**facts, "difference": None if difference is None else difference.to_json()})
        return
    where = [str(place) for place in (to, table) if place is not None]
    into = f" into {' and '.join(where)}" if where else ""
    typer.echo(f"{name}: {found.rows:,} rows of {found.events:,} events{into}, in {facts['seconds']:.1f} s")
    typer.echo(f"as of {found.position.to_header()}")
    if difference is not None:
        _show(difference)


def _go_last() -> None:
    """Let everything else on this machine go first."""
    if sys.platform != "win32":
        os.nice(19)


def _show(difference: Difference) -> None:
    typer.echo(f"\nBeside {difference.live}, which serves, over the columns that both have:\n")
    print_table(
        ["rows", "added", "removed", "changed"],
        [[difference.rows, difference.added, difference.removed, difference.changed]],
    )
    if changed := {column: count for column, count in difference.columns.items() if count}:
        typer.echo("")
        print_table(["column", "changed rows"], [[column, count] for column, count in changed.items()])
    if difference.samples:
        typer.echo("")
        rows: list[list[object]] = []
        for sample in difference.samples:
            key = ",".join(sample["key"])
            if sample["change"] != "changed":
                rows.append([key, sample["change"], None, None, None])
                continue
            for column, pair in sample["columns"].items():
                rows.append([key, "changed", column, pair["live"], pair["replay"]])
        print_table(["such as", "change", "column", "serves", "replayed"], rows)
