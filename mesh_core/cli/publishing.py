"""Publishing lines of CloudEvents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from mesh_core.cli.surroundings import Surroundings
from mesh_core.cli.validation import EventRefused, Validator
from mesh_core.emit import Publisher
from mesh_core.errors import MeshError
from mesh_core.log import Position
from mesh_core.model import Catalog


@dataclass(frozen=True)
class Published:
    """How many events went into the log, and the position after them.

    `unknown` counts those of each type that no contract describes.
    """

    count: int
    position: Position
    unknown: Mapping[str, int]


def publish_lines(mesh: Surroundings, lines: IO[str], *, twice: bool = False) -> Published:
    """Publish the events in `lines`, each checked before; with `twice`, all before the first is published.

    Raises EventRefused, which names the line, or what the publisher raises.
    """
    validator = Validator(Catalog.load(mesh.settings.catalog))
    unknown: Counter[str] = Counter()
    if twice:
        for _ in _events(validator, lines):
            pass
        lines.seek(0)
    count = 0
    with Publisher(mesh.reachable_driver(), source="/mesh/events/publish") as publisher:
        try:
            for event in _events(validator, lines):
                publisher.publish_envelope(event)
                count += 1
                if not validator.knows(event):
                    unknown[event["type"]] += 1
        except EventRefused as error:
            publisher.flush()
            raise EventRefused(f"{error} Published before it: {count}.") from None
        return Published(count, publisher.flush(), unknown)


def _events(validator: Validator, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield validator.read(line)
                except MeshError as error:
                    raise EventRefused(f"Line {number}: {error}") from None
    except UnicodeDecodeError as error:
        raise EventRefused(f"The input is not UTF-8: {error}.") from None
