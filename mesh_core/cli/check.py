"""`mesh check`: whether views equal their definitions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mesh_core.cli.output import Json, print_json, print_table


def register(app: typer.Typer) -> None:
    """Adds the command `check`."""
    app.command("check")(check)


def check(
    names: Annotated[list[str] | None, typer.Argument(help="Views; all live ones by default.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute views from their entities and compare every row; exit status 1 on any difference.

    Example: mesh check order_overview
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.engine.checking import check as compare

    results = compare(find_surroundings().database_url, names or [])
    if as_json:
        print_json([{**asdict(result), "clean": result.clean} for result in results])
    else:
        titles = ["view", "rows", "missing", "unexpected", "different", "pending", "keys that differ"]
        rows = [
            [
                result.view,
                result.rows,
                result.missing,
                result.unexpected,
                result.different,
                result.pending,
                "; ".join(", ".join(map(str, key)) for key in result.samples) or None,
            ]
            for result in results
        ]
        print_table(titles, rows)
    if not all(result.clean for result in results):
        raise typer.Exit(1)
