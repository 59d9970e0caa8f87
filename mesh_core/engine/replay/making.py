"""Makes a view as of a moment: the bulk build of a deploy, bounded by a position, into tables of its own.

What serves is not touched: no lock of it is taken, no projector hears of it. A replay that is interrupted keeps what it has
read, and whoever asks for the same next goes on with it; whoever asks for something else drops it, as does `mesh prune`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from mesh_core.engine.building import Build, CannotBeCopied, make_ready
from mesh_core.engine.bulk import can_be_copied
from mesh_core.engine.deploy_report import Progress
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.progress import watched
from mesh_core.engine.replay.asking import Wishes
from mesh_core.engine.replay.decided import decided_before
from mesh_core.engine.replay.declared import Declared
from mesh_core.engine.replay.errors import ReplayRefused
from mesh_core.engine.replay.extent import Extent, extent
from mesh_core.errors import DependencyUnavailable, UsageError
from mesh_core.log.interface import Driver
from mesh_core.log.position import Position
from mesh_core.model.builtin import WorkflowEntry
from mesh_core.model.catalog import digest
from mesh_core.model.identifiers import key_parts
from mesh_core.model.view_model import ViewModel
from mesh_core.store import checkpoints, replays, tables, versions
from mesh_core.store.connections import connect
from mesh_core.store.lookups import Decided
from mesh_core.store.replays import ReplayRow
from mesh_core.store.tables import ENTRY, physical
from mesh_core.store.versions import VersionRow


@dataclass(frozen=True)
class Replayed:
    """A view as it was: `rows` of `view` in the table `relation`, which goes with the context that gave it.

    `wanted` is the session's table of the keys that were asked for; None: all were. `resumed` tells that a replay was gone on
    with that had been interrupted.
    """

    connection: psycopg.Connection[Any]
    view: ViewModel
    relation: str
    position: Position
    events: int
    rows: int
    wanted: str | None
    resumed: bool


@contextmanager
def replayed(
    database_url: str,
    driver: Driver,
    declared: Declared,
    wishes: Wishes,
    progress: Progress = lambda line: None,
) -> Iterator[Replayed]:
    """The rows of a view as of a moment, for as long as the context lasts.

    Raises UsageError for a position, keys or a workflow that cannot be; ReplayRefused where the log has lost what is asked,
    or where it would take too much; DependencyUnavailable and LogUnavailable where Postgres or Kafka fail meanwhile.
    Whatever is raised inside the context leaves what was made, for whoever asks for the same again.
    """
    if wishes.only.workflow is not None and ENTRY not in declared.entities:
        declared = declared.with_entries(WorkflowEntry.model)
    with connect(database_url, "mesh replay") as connection:
        topics = {topic for name in declared.entities for topic in declared.topics_of(name)}
        progress(f"replaying {declared.view.name} from {', '.join(sorted(topics))}")
        found = extent(connection, driver, topics, wishes.as_of, accept_truncated=wishes.accept_truncated)
        decided = decided_before(connection, driver, found)
        asked = _asked(declared, wishes, found, decided)
        row, resumed = replays.begin(connection, declared.view.name, asked, found.total)
        made = _Replay(database_url, driver, connection, declared, wishes, found, decided, row, progress)
        try:
            came_to = made.run(resumed=resumed)
        except (ReplayRefused, DeployRefused, UsageError):  # after all else, the next one goes on
            _drop(database_url, connection, row)
            raise
        except psycopg.OperationalError as error:
            if made.too_large or isinstance(error, psycopg.errors.DiskFull):
                _drop(database_url, connection, row)
                most = f"more than {wishes.disk:,} bytes of" if made.too_large else "all of the"
                raise ReplayRefused(
                    f"The replay took {most} disk.", remedy="Let it take more, --disk; or ask for less of it."
                ) from error
            raise _unavailable(error) from error
        try:
            yield came_to
        except psycopg.OperationalError as error:
            raise _unavailable(error) from error
        _drop(database_url, connection, row)


def _unavailable(error: psycopg.OperationalError) -> DependencyUnavailable:
    said = str(error).strip().split("\n")[0].rstrip(".")
    return DependencyUnavailable(
        f"Postgres failed during the replay: {said}.",
        remedy="Replay again once it is well: it goes on where it was.",
    )


def _drop(database_url: str, connection: psycopg.Connection[Any], row: ReplayRow) -> None:
    """Drop all of it. Where Postgres is away, the next replay does, or mesh prune."""
    try:
        connection.rollback()
        replays.drop(connection, row)
    except psycopg.OperationalError:  # this connection may have been ended with the others
        with suppress(psycopg.OperationalError), connect(database_url, "mesh replay") as another:
            replays.drop(another, row)


def _asked(declared: Declared, wishes: Wishes, found: Extent, decided: Decided) -> dict[str, Any]:
    """All that decides the rows, as plain data: replays of the same can go on with one another."""
    return {
        "fingerprint": declared.fingerprint(),
        "position": found.position.to_json(),
        "decided": digest(
            [[str(at), offset, repr(decisions)] for (at, offset), decisions in sorted(decided.items())]
        ),
        "begins": Position({at: found.begins[at] for at in found.ends}).to_json(),
        "topic_ids": {name: facts.topic_id for name, facts in sorted(found.facts.items())},
        "only": wishes.only.to_json(),
    }


@dataclass
class _Replay:
    database_url: str
    driver: Driver
    connection: psycopg.Connection[Any]
    declared: Declared
    wishes: Wishes
    extent: Extent
    decided: Decided
    row: ReplayRow
    progress: Progress
    too_large: bool = field(default=False, init=False)

    def run(self, *, resumed: bool) -> Replayed:
        """Read what is to be read, then compute the view."""
        state = self.row.state
        if resumed:
            self.progress(f"going on with a replay that was interrupted while {state}")
        entities = self._entities()
        if state != "computing":
            self._read(entities, copying=state == "copying", resumed=resumed)
            replays.set_state(self.connection, self.row, "computing")
        view = self._view(entities)
        with self._watched(entities, lambda line: None):
            rows, wanted = self._compute(view, entities)
        return Replayed(
            self.connection,
            self.declared.view,
            view.relation,
            self.extent.position,
            self.extent.total,
            rows,
            wanted,
            resumed,
        )

    # ---- entities

    def _entities(self) -> list[VersionRow]:
        return [
            self._version(n, "entity", name, model.table, model.to_json(), self.declared.topics_of(name))
            for n, (name, model) in enumerate(sorted(self.declared.entities.items()), 1)
        ]

    def _version(
        self,
        number: int,
        kind: str,
        name: str,
        stem: str,
        declaration: Mapping[str, Any],
        topics: Any,
        reads: Mapping[str, int] | None = None,
    ) -> VersionRow:
        id_, relation = self.row.version_id(number), self.row.relation(stem)
        return VersionRow(id_, kind, name, 0, relation, "", declaration, reads or {}, topics, "building")

    def _read(self, rows: list[VersionRow], *, copying: bool, resumed: bool) -> None:
        """Fill the tables of the entities with history, or go on with that."""
        wanted = self.extent.wanted
        fed = {at.topic for at in wanted}
        copied = [
            row.id
            for row in rows
            if copying and can_be_copied(self.declared.entities[row.name]) and fed & set(row.topics)
        ]
        build = Build(
            self.database_url,
            self.driver,
            self.declared.contracts,
            rows,
            frozenset(),
            (),
            frozenset(copied),
            self.wishes.processes,
            decided=self.decided,
            name=self.row.connection_name,
        )
        if resumed:
            build = self._gone_on(build)
        else:
            self._prepare(build)
        if self.wishes.processes > 1:
            make_ready()
        try:
            with self._watched(rows, self.progress):
                build.read_history(wanted)
        except CannotBeCopied:
            self.progress("reading again, batch by batch: Postgres refuses some record")
            with self.connection.transaction():
                replays.clear(self.connection, self.row)
                replays.set_state(self.connection, self.row, "applying")
            self._read(rows, copying=False, resumed=False)

    def _prepare(self, build: Build) -> None:
        with self.connection.transaction():
            for row in build.rows:
                model = self.declared.entities[row.name]
                tables.create_entity_table(
                    self.connection, model, row.relation, keyed=row.id not in build.copied
                )
            for heap in build.heaps.values():
                heap.create(self.connection, logged=True)  # checkpoints are, and a replay goes on from them
            topics = {topic for row in build.rows for topic in row.topics}
            checkpoints.ensure(self.connection, [self.extent.facts[topic] for topic in topics], build.id)
            checkpoints.begin(self.connection, self.extent.begins, build.id)

    def _gone_on(self, build: Build) -> Build:
        """The build as it goes on where it was interrupted; what nobody has prepared yet is prepared."""
        topics = sorted({topic for row in build.rows for topic in row.topics})
        if not checkpoints.read(self.connection, topics, build.id):
            self._prepare(build)
            return build
        checkpoints.free(self.connection, build.id)
        heaps = [heap for heap in build.heaps.values() if heap.is_open(self.connection)]
        window = max((heap.windows(self.connection) for heap in heaps), default=0)
        return replace(build, window=window)

    # ---- the view

    def _view(self, entities: list[VersionRow]) -> VersionRow:
        view = self.declared.view
        reads = {row.name: row.id for row in entities if row.name in view.entities}
        return self._version(0, "view", view.name, view.table, view.to_json(), (), reads)

    def _compute(self, row: VersionRow, entities: list[VersionRow]) -> tuple[int, str | None]:
        """Compute the rows; how many there are, and the table of the keys that they were computed of."""
        self.progress(f"computing {row.name}")
        plan = versions.plan_of(0, [*entities, row])
        (view,) = plan.views
        keys = self._keys(entities)
        with self.connection.transaction():  # whoever watches the disk must see the table while it grows
            tables.drop_version(self.connection, row.relation)  # it may have been interrupted here
            tables.create_view_table(self.connection, self.declared.view, row.relation)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            for source in view.sources.values():
                tables.analyze_once(cursor, source.relation)
            if keys is None:
                count = view.fill(cursor)
                tables.add_key(self.connection, self.declared.view, row.relation)
            else:
                tables.add_key(self.connection, self.declared.view, row.relation)
                count = view.fill_only(cursor, keys)
        return count, None if keys is None else view.keys

    def _keys(self, entities: list[VersionRow]) -> list[tuple[str, ...]] | None:
        """Keys of the rows that are wanted, as texts; None for all."""
        only = self.wishes.only
        if not only:
            return None
        texts = list(only.keys)
        if only.workflow is not None:
            (entries,) = (row for row in entities if row.name == ENTRY)
            service, _, entity = self.declared.view.root.partition(".")
            texts += [
                key
                for (key,) in self.connection.execute(
                    f"SELECT DISTINCT key FROM {physical(entries.relation)} WHERE workflow_id = %s AND service = %s "
                    "AND entity = %s",
                    (only.workflow, service, entity),
                )
            ]
        return [self._parsed(text) for text in texts]

    def _parsed(self, text: str) -> tuple[str, ...]:
        key = self.declared.view.key
        try:
            parts = key_parts(text, len(key))
            casts = ", ".join(
                f"pg_input_is_valid(%s, '{self.declared.view.column(name).type.sql}')" for name in key
            )
            row = self.connection.execute(f"SELECT {casts}", parts).fetchone()
            if row is None or not all(row):
                raise ValueError(f"{text!r} is none")
        except ValueError as error:
            raise UsageError(
                f"The key of {self.declared.view.name} is {', '.join(key)}: {error}.",
                remedy="Correct the key.",
            ) from None
        return parts

    # ---- while it lasts

    @contextmanager
    def _watched(self, rows: list[VersionRow], progress: Progress) -> Iterator[None]:
        topics = sorted({topic for row in rows for topic in row.topics})
        build = min(row.id for row in rows)
        with watched(self.database_url, build, topics, self.extent.total, progress, self._note):
            yield

    def _note(self, connection: psycopg.Connection[Any], done: int) -> None:
        """Record how far it is; end it where it takes more disk than it may."""
        replays.set_done(connection, self.row, done)
        if replays.size(connection, self.row) > self.wishes.disk:
            self.too_large = True
            replays.end_sessions(connection, self.row)
