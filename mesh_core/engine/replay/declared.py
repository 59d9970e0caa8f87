"""The declarations that a replay goes by: those that serve, with others in their place where somebody asks what would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from mesh_core.errors import UsageError
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.catalog import Catalog, digest
from mesh_core.model.entity import EntityModel
from mesh_core.model.event import Contract
from mesh_core.model.view_model import ViewModel
from mesh_core.store import versions
from mesh_core.store.tables import ENTRY
from mesh_core.store.versions import VersionRow


@dataclass(frozen=True)
class Declared:
    """A view, the entities that it reads by name, and the contracts of their events.

    `entry_topics` are all that entries of workflows are fed by. `live` is the version of the view that serves, if one does.
    """

    view: ViewModel
    entities: Mapping[str, EntityModel]
    contracts: Sequence[Contract]
    entry_topics: Sequence[str]
    live: VersionRow | None

    def topics_of(self, entity: str) -> Sequence[str]:
        """The topics that feed an entity."""
        return self.entry_topics if entity == ENTRY else [self.entities[entity].topic]

    def fingerprint(self) -> str:
        """A digest of all that decides the rows."""
        entities = [self.entities[name].to_json() for name in sorted(self.entities)]
        return digest([self.view.to_json(), entities, sorted(self.entry_topics)])

    def with_entries(self, entries: EntityModel) -> Declared:
        """With the entries of workflows, though the view may not read them."""
        return Declared(
            self.view, {**self.entities, ENTRY: entries}, self.contracts, self.entry_topics, self.live
        )


def live_declaration(connection: psycopg.Connection[Any], name: str) -> Declared:
    """The view as it serves, with the entities that it is computed from. Raises UsageError where none of that name does."""
    rows = versions.version_rows(connection)
    live = _live(rows, name)
    if live is None:
        known = ", ".join(row.name for row in rows if (row.kind, row.state) == ("view", "live"))
        raise UsageError(
            f"No view {name!r} serves.",
            remedy=f"These do: {known}." if known else "Run mesh deploy, or declare it with --with FILE.py.",
        )
    by_id = {row.id: row for row in rows}
    entities = {entity: _entity(by_id[id_]) for entity, id_ in live.reads.items()}
    return Declared(_view(live), entities, versions.served_contracts(rows), _entry_topics(rows), live)


def declared_in(connection: psycopg.Connection[Any], file: Path, name: str) -> Declared:
    """The view, and what it reads, as `file` declares or imports it.

    The file may import what is declared elsewhere. Raises DeclarationError, and UsageError where it has no such view.
    """
    catalog = Catalog.of_file(file)
    if name not in catalog.views:
        known = ", ".join(catalog.views) or "none at all"
        raise UsageError(
            f"{file} declares no view {name!r}.", remedy=f"It declares {known}; name one of these."
        )
    rows = versions.version_rows(connection)
    view = catalog.views[name]
    entities = {entity: catalog.entities[entity] for entity in view.entities}
    topics = {*_entry_topics(rows), *(model.topic for model in entities.values())}
    contracts = [*versions.served_contracts(rows), *catalog.contracts.values()]  # what is declared counts
    return Declared(view, entities, contracts, sorted(topics), _live(rows, name))


def _live(rows: Sequence[VersionRow], name: str) -> VersionRow | None:
    return next((row for row in rows if (row.kind, row.name, row.state) == ("view", name, "live")), None)


def _view(row: VersionRow) -> ViewModel:
    return ViewModel.from_json(row.declaration, row.presentation)


def _entity(row: VersionRow) -> EntityModel:
    return EntityModel.from_json(row.declaration)


def _entry_topics(rows: Sequence[VersionRow]) -> Sequence[str]:
    fed = {topic for row in rows if row.kind == "entity" and row.state == "live" for topic in row.topics}
    return sorted({*fed, MESH_TOPIC})
