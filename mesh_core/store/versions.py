"""The control table of versions: what is deployed, and as which physical tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from mesh_core.model.entity import EntityModel
from mesh_core.model.event import Contract
from mesh_core.model.view_model import ViewModel
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.scratch import Scratch
from mesh_core.store.view_query import Tables
from mesh_core.store.view_writes import ViewVersion

LIVE = 0
"""The build number of the live checkpoints."""


@dataclass(frozen=True)
class VersionRow:
    """A row of mesh.versions."""

    id: int
    kind: str
    name: str
    number: int
    relation: str
    fingerprint: str
    declaration: Mapping[str, Any]
    reads: Mapping[str, int]
    topics: Sequence[str]
    state: str
    presentation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The relation's name without the number: what schema `read` calls the version that serves."""
        return self.relation.rpartition("__")[0]

    @cached_property
    def model(self) -> EntityModel | ViewModel:
        """What was declared."""
        if self.kind == "entity":
            return EntityModel.from_json(self.declaration)
        return ViewModel.from_json(self.declaration, self.presentation)


KEPT_UP = ("joined", "live", "previous", "kept")
"""States in which projectors keep a version up to date.

A version is `building` until projectors know of it. A view is then `queued` while it is filled. `joined` is whatever
is whole and kept up, but does not serve yet; `live` serves; `previous` did, and is kept up for a rollback; `kept` did
before that, and is read by a view that goes on.
"""


@dataclass
class Plan:
    """What a projector keeps up: versions with their statements, as of one generation of the catalog.

    `live` are the ids of those that serve. `counted` are the entity versions whose outcomes a record counts under: what
    serves, or what has joined where nothing serves yet. `queued` are views that are being filled: of them only the
    touched root keys are noted. `scratch` has the session's temporary tables.
    """

    generation: int
    entities: Mapping[int, EntityVersion]
    views: Sequence[ViewVersion]
    live: frozenset[int]
    counted: frozenset[int]
    queued: Sequence[ViewVersion] = ()
    scratch: Scratch = field(default_factory=Scratch)

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """Topics that feed the entities, sorted."""
        return tuple(sorted({version.model.topic for version in self.entities.values()}))

    def temporary_tables(self) -> Iterable[str]:
        """Statements that make the tables that a session needs to apply batches."""
        for entity in self.entities.values():
            yield from entity.temporary_tables()
        for view in (*self.views, *self.queued):
            yield from view.temporary_tables()


def generation(connection: psycopg.Connection[Any]) -> int:
    """A number that rises with every change of versions."""
    row = connection.execute("SELECT value FROM mesh.generation WHERE id = 1").fetchone()
    assert row is not None
    return int(row[0])


def is_known(cursor: psycopg.Cursor[Any], id_: int) -> bool:
    """Whether a version is still registered."""
    return cursor.execute("SELECT FROM mesh.versions WHERE id = %s", (id_,)).fetchone() is not None


def raise_generation(connection: psycopg.Connection) -> None:
    """Tell projectors and readers to look again; takes effect with the transaction."""
    connection.execute("UPDATE mesh.generation SET value = value + 1 WHERE id = 1")
    connection.execute("NOTIFY mesh_generation")


def version_rows(connection: psycopg.Connection[Any], state: str | None = None) -> list[VersionRow]:
    """Rows of mesh.versions in order of id, of one state or of all."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            "SELECT id, kind, name, number, relation, fingerprint, declaration, reads, topics, state, presentation "
            "FROM mesh.versions "
            "WHERE %(state)s::text IS NULL OR state = %(state)s ORDER BY id",
            {"state": state},
        )
        return [VersionRow(**row) for row in cursor.fetchall()]


def served_contracts(rows: Iterable[VersionRow]) -> list[Contract]:
    """The contracts of the events that live entities among these fold."""
    return [
        fold.contract
        for row in rows
        if (row.kind, row.state) == ("entity", "live")
        for fold in EntityModel.from_json(row.declaration).folds
    ]


def live_plan(connection: psycopg.Connection[Any]) -> Plan:
    """The plan of all versions that are to be kept up."""
    current = generation(connection)
    rows = version_rows(connection)
    return plan_of(current, [row for row in rows if row.state in (*KEPT_UP, "queued")])


def plan_of(current: int, rows: Sequence[VersionRow]) -> Plan:
    """The plan of these versions; views must read entities among them."""
    scratch = Scratch()
    entities = {
        row.id: EntityVersion(row.id, EntityModel.from_json(row.declaration), row.relation, scratch=scratch)
        for row in sorted(rows, key=lambda row: (row.state != "live", row.id))
        if row.kind == "entity"
    }
    views: list[ViewVersion] = []
    queued: list[ViewVersion] = []
    for row in rows:
        if row.kind == "view":
            sources = {name: entities[id_] for name, id_ in row.reads.items()}
            tables = Tables(
                {name: version.model for name, version in sources.items()},
                {name: version.relation for name, version in sources.items()},
            )
            into = queued if row.state == "queued" else views
            into.append(
                ViewVersion(
                    row.id, ViewModel.from_json(row.declaration), row.relation, tables, sources, scratch
                )
            )
    for version in entities.values():
        version.nodes = tuple(
            node for view in (*views, *queued) for node in view.nodes if view.sources[node.entity] is version
        )
    live = frozenset(row.id for row in rows if row.state == "live")
    served = {row.name for row in rows if row.id in live and row.kind == "entity"}
    counted = frozenset(
        row.id for row in rows if row.id in live or (row.state == "joined" and row.name not in served)
    )
    return Plan(current, entities, views, live, counted & frozenset(entities), queued, scratch)


def set_state(connection: psycopg.Connection[Any], ids: Iterable[int], state: str) -> None:
    """Move versions to another state."""
    connection.execute(
        "UPDATE mesh.versions SET state = %s, live_at = CASE WHEN %s = 'live' THEN clock_timestamp() ELSE live_at END "
        "WHERE id = ANY(%s)",
        (state, state, list(ids)),
    )


def present(connection: psycopg.Connection[Any], presentations: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say this of the live versions of these views; whether anything was said that had not been."""
    changed = connection.execute(
        "UPDATE mesh.versions SET presentation = said.value FROM jsonb_each(%s) AS said "
        "WHERE kind = 'view' AND state = 'live' AND name = said.key AND presentation <> said.value",
        (Jsonb(presentations),),
    )
    return changed.rowcount > 0


def insert_version(
    connection: psycopg.Connection[Any],
    *,
    kind: str,
    name: str,
    stem: str,
    fingerprint: str,
    declaration: Mapping[str, Any],
    reads: Mapping[str, int],
    topics: Sequence[str],
    presentation: Mapping[str, Any] | None = None,
) -> VersionRow:
    """Register a version as building, under the next number of its name, which none before it had, pruned or not."""
    row = connection.execute(
        "INSERT INTO mesh.version_numbers AS last (stem, number) VALUES (%s, 1) "
        "ON CONFLICT (stem) DO UPDATE SET number = last.number + 1 RETURNING number",
        (stem,),
    ).fetchone()
    assert row is not None
    number = int(row[0])
    relation = f"{stem}__{number}"
    found = connection.execute(
        "INSERT INTO mesh.versions "
        "(kind, name, number, relation, fingerprint, declaration, reads, topics, presentation, state) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'building') RETURNING id",
        (
            kind,
            name,
            number,
            relation,
            fingerprint,
            Jsonb(declaration),
            Jsonb(reads),
            list(topics),
            Jsonb(presentation or {}),
        ),
    ).fetchone()
    assert found is not None
    return VersionRow(
        int(found[0]),
        kind,
        name,
        number,
        relation,
        fingerprint,
        declaration,
        reads,
        topics,
        "building",
        presentation or {},
    )
