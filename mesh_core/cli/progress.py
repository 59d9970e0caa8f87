"""How commands tell how far they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import typer

LINE_SECONDS = 5.0


def progress_lines() -> Callable[[str], None]:
    """Lines of progress on standard error: on a terminal those of one step overwrite each other, elsewhere few are shown."""
    terminal = sys.stderr.isatty()
    step, shown = "", 0.0

    def show(line: str) -> None:
        nonlocal step, shown
        now, before = line.partition(":")[0], step
        step = now
        if terminal:
            if before and (not line or now != before):
                typer.echo("", err=True)
            if line:
                typer.echo(f"\r\x1b[2K{line}", err=True, nl=False)
        elif line and (now != before or time.monotonic() - shown > LINE_SECONDS):
            shown = time.monotonic()
            typer.echo(line, err=True)

    return show
