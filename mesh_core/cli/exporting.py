"""Which topics `mesh events export` keeps, and what of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from mesh_core.cli.surroundings import Surroundings
from mesh_core.cli.tailing import Wanted
from mesh_core.errors import MeshError, UsageError
from mesh_core.log import Driver, TopicFacts
from mesh_core.log.archive import (
    ArchiveDamaged,
    ArchiveRefused,
    Exported,
    Manifest,
    Selection,
    export_topic,
    verify,
)
from mesh_core.log.moment import parse_moment
from mesh_core.model import Catalog
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.event import topic_of


@dataclass(frozen=True)
class Chosen:
    """What is asked for of topics, as texts; nothing chosen is all of them."""

    begin: str | None = None
    end: str | None = None
    types: tuple[str, ...] = ()
    workflow: UUID | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self == Chosen()

    def selection(self) -> Selection:
        """As an export takes it. Raises UsageError."""
        if self.whole:
            return Selection()
        said: dict[str, Any] = {"from": self.begin, "until": self.end, "types": list(self.types)}
        said["workflow"] = str(self.workflow) if self.workflow is not None else None
        begin = parse_moment(self.begin) if self.begin is not None else None
        end = parse_moment(self.end) if self.end is not None else None
        return Selection(begin, end, self._takes if self.types or self.workflow else None, said)

    def _takes(self, attributes: Mapping[str, str]) -> bool:
        wanted = Wanted(types=self.types, workflow=self.workflow)
        return wanted.passes(attributes.get("type", ""), attributes.get("workflowid", ""))


def export_topics(
    mesh: Surroundings, names: Sequence[str], to: Path, chosen: Chosen, progress: Callable[[str], None]
) -> tuple[list[Exported], list[MeshError]]:
    """Export topics, or those of services; by default all that are declared and exist. What is refused of one stops no other.

    Raises UsageError for a topic that does not exist.
    """
    selection, driver = chosen.selection(), mesh.reachable_driver()
    done: list[Exported] = []
    refused: list[MeshError] = []
    for facts in _topics(mesh, driver, names):
        try:
            done.append(export_topic(driver, facts, to, selection, progress))
        except (ArchiveRefused, ArchiveDamaged) as error:
            refused.append(error)
    return done, refused


def _topics(mesh: Surroundings, driver: Driver, names: Sequence[str]) -> list[TopicFacts]:
    wanted = names or [*Catalog.load(mesh.settings.catalog).topics, MESH_TOPIC]
    with driver.admin() as admin:
        facts = admin.describe({*wanted, *map(topic_of, names)})
    found = {name: facts.get(name) or facts.get(topic_of(name)) for name in wanted}
    missing = [name for name, topic in found.items() if topic is None]
    if missing and (names or len(missing) == len(found)):
        raise UsageError(
            f"There is no topic {', '.join(missing)}.",
            remedy="Name topics, or services, whose topics are SERVICE.events; a deploy makes what is declared.",
        )
    return list({topic.name: topic for topic in found.values() if topic is not None}.values())


def verify_topics(folder: Path) -> list[tuple[str, int, list[str]]]:
    """(topic, files, what is amiss with them) of all topics in a folder. Raises ArchiveDamaged, UsageError."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and (manifest := Manifest.read(path)) is not None:
            found.append((manifest.topic, len(manifest.files), [str(wrong) for wrong in verify(path)]))
    if not found:
        raise UsageError(f"There is no archive in {folder}.", remedy="Make one: mesh events export --to DIR.")
    return found
