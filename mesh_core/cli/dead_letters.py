"""`mesh dead-letters`: what could not be applied, and what to do about it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh_core.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from mesh_core.cli.deciding import Action
    from mesh_core.store.held import HeldRow

Letters = Annotated[list[str], typer.Argument(metavar="TOPIC/PARTITION/OFFSET…")]
Letter = Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until it is carried out; exit status 1 if refused again.")
]
Patience = Annotated[float, typer.Option("--timeout", min=0.1, help="Longest to wait, in seconds.")]


def register(app: typer.Typer) -> None:
    """Adds the group `dead-letters`."""
    group = typer.Typer(no_args_is_help=True, help="Events that could not be applied.")
    group.command("list")(list_)
    for command in (show, retry, edit, discard):
        group.command(command.__name__)(command)
    app.add_typer(group, name="dead-letters")


def list_(
    topic: Annotated[list[str] | None, typer.Option(help="Only of this topic; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most letters to list.")] = 100,
    as_json: Json = False,
) -> None:
    """Dead letters in the order of the log: reason, key, age, and how many events are parked behind each.

    Example: mesh dead-letters list --topic sales.events
    """
    import psycopg

    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.store.dead_letters import dead_letters

    with psycopg.connect(find_surroundings().database_url) as connection:
        letters = dead_letters(connection, topic or (), limit)
    if as_json:
        print_json([{"address": letter.address, **asdict(letter)} for letter in letters])
        return
    if not letters:
        typer.echo("There are no dead letters.")
        return
    now = datetime.now(UTC)
    print_table(
        ["letter", "key", "reason", "held by", "age", "parked behind", "detail"],
        [
            [
                letter.address,
                letter.key,
                letter.reason,
                ", ".join(letter.entities),
                timedelta(seconds=int((now - letter.held_at).total_seconds())),
                letter.parked,
                letter.detail,
            ]
            for letter in letters
        ],
    )


def show(letter: Letter, as_json: Json = False) -> None:
    """All that is known of a dead letter or a parked event, its payload whole.

    Example: mesh dead-letters show sales.events/0/17
    """
    import psycopg

    from mesh_core.cli.deciding import find
    from mesh_core.cli.surroundings import find_surroundings

    with psycopg.connect(find_surroundings().database_url) as connection:
        rows = [_plain(row) for row in find(connection, letter)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print_table(["", ""], [[name, value] for name, value in row.items() if value is not None])


def retry(letters: Letters, wait: Wait = False, timeout: Patience = 30.0) -> None:
    """Apply dead letters again, say after a deploy that can read them.

    Example: mesh dead-letters retry sales.events/0/17 --wait
    """
    _decide(letters, "retry", None, wait, timeout)


def discard(letters: Letters, wait: Wait = False, timeout: Patience = 30.0) -> None:
    """Skip dead letters for good, in later builds too; what is parked behind them goes on.

    Example: mesh dead-letters discard sales.events/0/17 --wait
    """
    _decide(letters, "discard", None, wait, timeout)


def edit(
    letter: Letter,
    value: Annotated[
        str | None, typer.Option(metavar="FILE", help="The event to apply instead; - is standard input.")
    ] = None,
    wait: Wait = False,
    timeout: Patience = 30.0,
) -> None:
    """Apply another event in a dead letter's place, in later builds too; the log itself stays as it is.

    Without --value the event is opened in $EDITOR.

    Example: mesh dead-letters edit sales.events/0/17 --value corrected.json --wait
    """
    import psycopg

    from mesh_core.cli.deciding import find_dead
    from mesh_core.cli.editor import edited
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.cli.validation import Validator
    from mesh_core.errors import UsageError
    from mesh_core.log.cloudevents import encode_checked
    from mesh_core.model import Catalog

    mesh = find_surroundings()
    with psycopg.connect(mesh.database_url) as connection:
        row = find_dead(connection, letter)
    if value == "-":
        text = sys.stdin.read()
    elif value is not None:
        try:
            text = Path(value).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{value} cannot be read: {error}.") from None
    else:
        changed = edited(_readable(row), ".json")
        if changed is None:
            typer.echo("Nothing was changed, so nothing is decided.")
            raise typer.Exit(1)
        text = changed
    event = Validator(Catalog.load(mesh.settings.catalog)).read(text)
    _decide([letter], "edit", encode_checked(event).decode(), wait, timeout)


def _decide(letters: list[str], action: Action, value: str | None, wait: bool, timeout: float) -> None:
    import psycopg

    from mesh_core.cli import deciding
    from mesh_core.cli.surroundings import find_surroundings

    mesh = find_surroundings()
    with psycopg.connect(mesh.database_url) as connection:
        rows = [deciding.find_dead(connection, letter) for letter in letters]
    decisions = deciding.decide(mesh, rows, action, value)
    if not wait:
        typer.echo(f"Decided: {action} {', '.join(letters)}; a projector carries it out.")
        return
    deciding.wait(mesh, decisions, timeout)
    with psycopg.connect(mesh.database_url) as connection:
        found = [deciding.outcome(connection, row) for row in rows]
    for letter, (_, words) in zip(letters, found, strict=True):
        typer.echo(f"{action} {letter}: {words}")
    if not all(good for good, _ in found):
        raise typer.Exit(1)


def _plain(row: HeldRow) -> dict[str, Any]:
    """A row for people and JSON: bytes as text, what is not UTF-8 escaped; the key as it was stored."""
    facts = {name: value for name, value in asdict(row).items() if name not in ("record_key", "counted")}
    return {
        name: value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        for name, value in facts.items()
    }


def _readable(row: HeldRow) -> str:
    """The event to edit: indented JSON where it is JSON."""
    import msgspec

    from mesh_core.engine.intake import structured_value

    value = row.edited or structured_value(row.record.headers, row.value or b"{}")
    try:
        return msgspec.json.format(value, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return value.decode("utf-8", "backslashreplace")
