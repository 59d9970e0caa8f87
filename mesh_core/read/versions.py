"""The live versions as a reader knows them, as of one generation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from mesh_core.model.builtin import MESH_SERVICE, ROLE, ROLE_GRANT
from mesh_core.model.entity import EntityModel
from mesh_core.model.types import ColumnType
from mesh_core.model.view_model import CacheLevel, ViewModel
from mesh_core.read.errors import Forbidden
from mesh_core.read.grants import Grants
from mesh_core.store.schemas import READ

LOAD = """
    SELECT generation.value, versions.id, versions.kind, versions.name, versions.number, versions.relation,
           versions.declaration, versions.topics, versions.live_at, versions.reads, versions.presentation
    FROM mesh.generation LEFT JOIN mesh.versions ON versions.state = 'live'
    WHERE generation.id = 1 ORDER BY versions.kind, versions.name COLLATE "C"
"""
"""One statement, so that the versions are those of the generation."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one subject may see of a version: its `columns`, and rows of `sql` (empty: the whole table).

    `ruled` says that these may not be all rows. `select` and `where` are what `sql` is made of.
    """

    columns: Mapping[str, ColumnType]
    sql: str = ""
    values: tuple[object, ...] = ()
    ruled: bool = False
    select: str = ""
    where: str = ""

    def of(self, relation: str) -> str:
        """What may be seen of rows of another relation of the same columns, which binds nothing; binds `values`."""
        return f"(SELECT {self.select or '*'} FROM {relation} WHERE {self.where or 'true'})"


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
    seen: Seen | None = None
    """What of it whoever asks may see; None: all of it."""

    @cached_property
    def columns(self) -> Mapping[str, ColumnType]:
        """Types by name, in the order of declaration."""
        return self.all_columns if self.seen is None else self.seen.columns

    @cached_property
    def all_columns(self) -> Mapping[str, ColumnType]:
        """Those of whoever may see all of it."""
        return {column.name: column.type for column in self.model.columns}

    @property
    def rows(self) -> str:
        """Its rows, as something to select from; it binds `values`."""
        return self.seen.sql if self.seen and self.seen.sql else f'{READ}."{self.relation}"'

    @property
    def values(self) -> tuple[object, ...]:
        """What `rows` binds."""
        return self.seen.values if self.seen else ()

    @property
    def ruled(self) -> bool:
        """Whether whoever asks may see some rows only."""
        return self.seen is not None and self.seen.ruled

    @cached_property
    def cache(self) -> CacheLevel:
        """For how long who has read it may use it again, as the view declares."""
        return self.model.cache if isinstance(self.model, ViewModel) else None

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
    grants: Grants = field(default_factory=Grants)
    seen_by: dict[Any, Live] = field(default_factory=dict, repr=False)
    """As those see it who have asked, by what they may: see `mesh_core.read.access`."""
    own: Mapping[str, Version] = field(default_factory=dict)
    """Entities of the mesh itself, which its own routes read for everybody."""
    declared: Mapping[str, EntityModel] = field(default_factory=dict)
    """Declarations of all entities, whether or not whoever asks may see rows of them."""
    row_security: str = ""
    """What `mesh.rows` must be where rows are read of which whoever asks may see some only."""
    resources: Collection[str] | None = None
    """What whoever asks may do besides reading entities and views; None: anything."""

    def require(self, resource: str) -> None:
        """Raises Forbidden where whoever asks has no grant of this."""
        if self.resources is not None and resource not in self.resources:
            raise Forbidden(
                f"No role of yours is granted {resource}.",
                remedy="Ask whoever runs the mesh to grant it to one.",
            )

    def granting(self, rows: Iterable[tuple[Any, ...]]) -> Live:
        """With the grants that the rows of `grants_statement` tell."""
        declared, suspended, central = next(iter(rows))
        return replace(self, grants=Grants.of(declared, suspended, central), seen_by={})

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """Every topic that feeds a live version."""
        versions = (*self.own.values(), *self.entities.values(), *self.views.values())
        found = {topic for version in versions for topic in version.topics}
        return tuple(sorted(found))

    @cached_property
    def feed(self) -> Feed:
        """What feeds workflows and the timeline."""
        built_in = ("mesh.workflow", "mesh.workflow_entry")
        entities = tuple(self.own[name].id for name in built_in if name in self.own)
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
    for generation, id_, kind, name, number, relation, declaration, topics, live_at, reads, said in rows:  # noqa: B007
        if id_ is None:
            continue
        is_entity = kind == "entity"
        model = EntityModel.from_json(declaration) if is_entity else ViewModel.from_json(declaration, said)
        version = Version(id_, name, number, relation, model, tuple(topics), live_at, tuple(reads.values()))
        (entities if is_entity else views)[name] = version
    own = {name: version for name, version in entities.items() if name.startswith(f"{MESH_SERVICE}.")}
    declared = {name: each.model for name, each in entities.items() if isinstance(each.model, EntityModel)}
    return Live(generation, entities, views, own=own, declared=declared)


def grants_statement(live: Live) -> str:
    """What is granted in the snapshot: its row has the declared grants, the suspended roles, what is said centrally."""

    def rows(entity: str, column: str, where: str = "") -> str:
        version = live.own.get(entity)
        if version is None:
            return "'[]'::json"
        return f"(SELECT coalesce(json_agg({column}), '[]') FROM {version.rows} AS r {where})"

    central = "json_build_object('role', role, 'resource', resource, 'rules', rules)"
    return (
        "SELECT (SELECT coalesce(json_agg(data), '[]') FROM mesh.declared_grants), "
        f"{rows(ROLE, 'role', 'WHERE suspended')}, {rows(ROLE_GRANT, central)}"
    )
