"""How commands print facts: a JSON document with `--json`, else plain aligned lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def print_json(value: object) -> None:
    """One document; what JSON does not know as text: times by RFC 3339, all else by `str`."""
    typer.echo(json.dumps(value, indent=2, default=_text, ensure_ascii=False))


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def json_line(value: object) -> str:
    """The same on one line."""
    return json.dumps(value, default=_text, ensure_ascii=False)


def cell_text(value: object) -> object:
    """A value for a table's cell: what is nested as JSON."""
    return json_line(value) if isinstance(value, dict | list | tuple) else value


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns under their titles; an absent value as `-`."""
    cells = [
        list(titles),
        *([("-" if cell is None else str(cell_text(cell))) for cell in row] for row in rows),
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
