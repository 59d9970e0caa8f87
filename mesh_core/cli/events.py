"""`mesh events`: CloudEvents into the log and out of it, one JSON document a line."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from mesh_core.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh_core.log import Position


def register(app: typer.Typer) -> None:
    """Adds the group `events`."""
    group = typer.Typer(no_args_is_help=True, help="Events: publish them, watch them, keep them.")
    group.command("publish")(publish)
    group.command("tail")(tail)
    group.command("export")(export)
    app.add_typer(group, name="events")


def publish(
    file: Annotated[str, typer.Argument(help="CloudEvents, one JSON document a line; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Publish CloudEvents; a line that does not fit its contract is named and stops it.

    Of a file with such a line nothing is published; of standard input, what came before it.

    Example: mesh events publish projections/shop/history.jsonl
    """
    from mesh_core.cli.publishing import publish_lines
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.errors import UsageError

    mesh = find_surroundings()
    if file == "-":
        published = publish_lines(mesh, sys.stdin)
    else:
        try:
            with open(file, encoding="utf-8") as lines:
                published = publish_lines(mesh, lines, twice=True)
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
    for kind, count in published.unknown.items():
        typer.echo(f"warning: no contract describes {kind} ({count} published)", err=True)
    if as_json:
        print_json({"published": published.count, "position": published.position.to_json()})
    else:
        events = "1 event" if published.count == 1 else f"{published.count} events"
        typer.echo(f"Published {events}; position {published.position.to_header()}")


def tail(
    service: Annotated[list[str] | None, typer.Option(help="Only of this service; may be repeated.")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Only of this type, * for any part; may be repeated.")
    ] = None,
    workflow: Annotated[UUID | None, typer.Option(help="Only of this workflow.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="All there is, then new ones.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after that many.")] = None,
    follow: Annotated[
        bool,
        typer.Option(
            help="Wait for new events; --no-follow prints all there is, from the beginning, and ends."
        ),
    ] = True,
) -> None:
    """Print events as they come, one JSON document a line, as `mesh events publish` reads them; until Ctrl-C.

    Order is kept within a partition. A record that is not an event is named on standard error.

    Example: mesh events tail --from-beginning --service sales --count 3
    """
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.cli.tailing import Wanted, events

    wanted = Wanted(tuple(service or ()), tuple(type_ or ()), workflow)
    whole = from_beginning or not follow
    found: Iterator[str] = events(find_surroundings(), wanted, from_beginning=whole, follow=follow)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for number, line in enumerate(found, 1):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            if number == count:
                break


def export(
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TOPIC]…",
            help="Which topics, or services; by default all topics that feed what is declared.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder that gets one for each topic.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME|POSITION", help="Only what comes from there on.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--until", metavar="TIME|POSITION", help="Only what comes before.")
    ] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Only of this type, * for any part; may be repeated.")
    ] = None,
    workflow: Annotated[UUID | None, typer.Option(help="Only of this workflow.")] = None,
    verify: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Only see whether the files there are as they were written."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep topics as Parquet, beyond their retention: with MESH_ARCHIVE=DIR builds and replays read both as one log.

    Exported again, it goes on where it ended. What is chosen by --from, --until, --type or --workflow needs a folder of its
    own and stands for no topic. Exit status 1 if a topic does not go on from what is there, or --verify finds a changed file.

    Example: mesh events export --to archive
    """
    from mesh_core.cli.exporting import Chosen, export_topics, verify_topics
    from mesh_core.cli.progress import progress_lines
    from mesh_core.cli.surroundings import find_surroundings
    from mesh_core.errors import UsageError

    if verify is not None:
        found = verify_topics(verify)
        if as_json:
            print_json([{"topic": name, "files": files, "wrong": wrong} for name, files, wrong in found])
        else:
            print_table(
                ["topic", "files", "changed"], [[name, files, len(wrong)] for name, files, wrong in found]
            )
            for _, _, wrong in found:
                for line in wrong:
                    typer.echo(line, err=True)
        if any(wrong for _, _, wrong in found):
            raise typer.Exit(1)
        return
    if to is None:
        raise UsageError("Nothing says where to.", remedy="Name a folder, --to DIR.")
    chosen = Chosen(begin, end, tuple(type_ or ()), workflow)
    mesh, show = find_surroundings(), progress_lines()
    done, refused = export_topics(mesh, topics or [], to, chosen, show)
    show("")
    if as_json:
        print_json(
            [
                {**vars(each), "position": each.position.to_json(), "lacking": each.lacking.to_json()}
                for each in done
            ]
        )
    elif done:
        print_table(
            ["topic", "events", "files", "bytes", "has all until"],
            [
                [
                    each.topic,
                    each.records,
                    each.files,
                    each.bytes,
                    _offsets(each.position) if chosen.whole else None,
                ]
                for each in done
            ],
        )
    for each in done:
        for partition, offset in sorted(each.lacking.offsets.items()):
            typer.echo(
                f"warning: the archive of {partition} begins at {offset}, as its log did: what was before is gone.",
                err=True,
            )
    for error in refused:
        typer.echo(f"mesh: {error}", err=True)
    if refused:
        raise typer.Exit(1)


def _offsets(position: Position) -> str:
    """Offsets of the partitions of one topic, in their order."""
    return " ".join(str(offset) for _, offset in sorted(position.offsets.items()))
