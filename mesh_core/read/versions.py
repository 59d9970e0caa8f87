"""The live versions as a reader knows them, as of one generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from mesh_core.model.entity import EntityModel
from mesh_core.model.types import ColumnType
from mesh_core.model.view import ViewModel

LOAD = """
    SELECT generation.value, versions.id, versions.kind, versions.name, versions.number, versions.relation,
           versions.declaration, versions.topics, versions.live_at, versions.reads
    FROM mesh.generation LEFT JOIN mesh.versions ON versions.state = 'live'
    WHERE generation.id = 1 ORDER BY versions.kind, versions.name COLLATE "C"
"""
"""One statement, so that the versions are those of the generation."""


@dataclass(frozen=True, eq=False)  # by identity: one object a version and generation, cheap to look up by
class Version:
    """A live version of an entity or a view; `relation` is its table in schema `data`."""

    id: int
    name: str
    number: int
    relation: str
    model: EntityModel | ViewModel
    topics: tuple[str, ...]
    live_at: datetime | None
    reads: tuple[int, ...] = ()
    """A view's entity versions."""

    @cached_property
    def columns(self) -> Mapping[str, ColumnType]:
        """Types by name, in the order of declaration."""
        return {column.name: column.type for column in self.model.columns}

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the key's columns, in order."""
        return self.model.key


@dataclass(frozen=True, slots=True)
class Feed:
    """What an answer is fed by: topics, entity versions, and view versions whose rows follow wide changes later."""

    name: str
    topics: tuple[str, ...]
    entities: tuple[int, ...]
    views: tuple[int, ...] = ()

    @classmethod
    def of(cls, versions: Iterable[Version]) -> Feed:
        """What feeds these views."""
        views = list(versions)
        topics = {topic for view in views for topic in view.topics}
        entities = {entity for view in views for entity in view.reads}
        return cls(
            ", ".join(view.name for view in views),
            tuple(sorted(topics)),
            tuple(sorted(entities)),
            tuple(view.id for view in views),
        )


@dataclass(frozen=True)
class Live:
    """All live versions by name, and the generation at which they were."""

    generation: int
    entities: Mapping[str, Version]
    views: Mapping[str, Version]

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """Every topic that feeds a live version."""
        found = {topic for version in self.entities.values() for topic in version.topics}
        return tuple(sorted(found))

    @cached_property
    def feed(self) -> Feed:
        """What feeds workflows and the timeline."""
        built_in = ("mesh.workflow", "mesh.workflow_entry")
        entities = tuple(self.entities[name].id for name in built_in if name in self.entities)
        return Feed("workflows", self.topics, entities)

    @cached_property
    def feed_of_all(self) -> Feed:
        """What feeds everything that there is to read."""
        entities = tuple(version.id for version in self.entities.values())
        return Feed("the mesh", self.topics, entities, tuple(version.id for version in self.views.values()))

    @cached_property
    def rooted(self) -> Mapping[str, tuple[Version, ...]]:
        """Views by the entity that they are rooted in."""
        found: dict[str, tuple[Version, ...]] = {}
        for version in self.views.values():
            if isinstance(version.model, ViewModel):
                found[version.model.root] = (*found.get(version.model.root, ()), version)
        return found


def live_from(rows: Iterable[tuple[Any, ...]]) -> Live:
    """What the rows of LOAD say; there is at least one, with the generation."""
    generation = 0
    entities: dict[str, Version] = {}
    views: dict[str, Version] = {}
    for generation, id_, kind, name, number, relation, declaration, topics, live_at, reads in rows:  # noqa: B007
        if id_ is None:
            continue
        reader: type[EntityModel] | type[ViewModel] = EntityModel if kind == "entity" else ViewModel
        model = reader.from_json(declaration)
        version = Version(id_, name, number, relation, model, tuple(topics), live_at, tuple(reads.values()))
        (entities if kind == "entity" else views)[name] = version
    return Live(generation, entities, views)
