"""New entity versions of a deploy: registered, filled from the log, brought to exactly where the live ones are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mesh_core.engine.building import Build, CannotBeCopied
from mesh_core.engine.bulk import can_be_copied
from mesh_core.engine.deploy_report import Given
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.history import History, history
from mesh_core.engine.progress import watched
from mesh_core.engine.pruning import drop_orphans, unregister
from mesh_core.engine.recounting import recount
from mesh_core.engine.seeding import check_seed, seed
from mesh_core.log.position import TopicPartition
from mesh_core.model.entity import EntityModel
from mesh_core.store import checkpoints, tables, versions
from mesh_core.store.deploys import Record
from mesh_core.store.tables import ENTRY
from mesh_core.store.versions import VersionRow

CATCH_UP_ROUNDS = 3


@dataclass
class EntityBuilds:
    """The entities of one deploy."""

    given: Given
    unread: frozenset[str] = frozenset()
    """Topics of new entities that nobody has read before."""
    uncounted: frozenset[str] = frozenset()
    """Topics of new entities that nobody reads now, so what records came to is counted by the build."""
    build: Build | None = None
    seeded: Mapping[str, VersionRow] = field(default_factory=dict)
    """Live versions that new ones of the same name begin with."""
    fresh: dict[str, VersionRow] = field(default_factory=dict)
    """New versions by name."""
    entry_topics: Sequence[str] = field(init=False)
    """The topics that feed entries of workflows from now on."""

    def __post_init__(self) -> None:
        self.entry_topics = self.given.entry_topics

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection that has the deploy lock."""
        return self.given.connection

    def run(self, names: Sequence[str]) -> None:
        """Read the history of these entities into new versions."""
        if not names:
            return
        topics = {topic for name in names for topic in self._topics_of(name)}
        live = checkpoints.read(self.connection, topics)
        self.uncounted = frozenset(topics - set(versions.live_plan(self.connection).topics))
        self.unread = frozenset(
            topic
            for topic in self.uncounted
            if all(row.next_offset == 0 for at, row in live.items() if at.topic == topic)
        )
        self.given.progress(f"replaying {', '.join(names)} from {', '.join(sorted(topics))}")
        found = history(self.given.driver, live, self.given.facts, self.unread)
        self.seeded = self._seeded(names, found)
        for name in self.seeded:
            self.fresh[name] = self._register_entity(self.given.catalog.entities[name], keyed=True)
        if replayed := [name for name in names if name not in self.seeded]:
            self._read(replayed, found, copying=True)
            self._catch_up()

    def _seeded(self, names: Sequence[str], found: History) -> dict[str, VersionRow]:
        """The live versions that new ones begin with, by name, since the log has lost its beginning, or a topic.

        Raises DeployRefused where that, or going without, was not asked for.
        """
        lost = {*found.gone, *(partition.topic for partition in found.cut)}
        hurt = [name for name in names if lost & set(self._topics_of(name))]
        if not hurt or self.given.wishes.accept_truncated:
            for topic in found.gone:  # which feeds entries alone: topics that are declared exist by now
                self.given.progress(f"leaving out {topic}, which does not exist any more")
            self.entry_topics = [topic for topic in self.entry_topics if topic not in found.gone]
            return {}
        live = {row.name: row for row in self.given.kept_up if (row.kind, row.state) == ("entity", "live")}
        if self.given.wishes.seed_from_live and all(name in live for name in hurt):
            for name in hurt:
                check_seed(live[name], self.given.catalog.entities[name])
            return {name: live[name] for name in hurt}
        cuts = [f"{partition} starts at {offset}" for partition, offset in sorted(found.cut.items())]
        said = ", ".join([*cuts, *(f"{topic} does not exist any more" for topic in found.gone)])
        raise DeployRefused(
            f"The log no longer has its beginning ({said}), so rows of {', '.join(hurt)} would be missing.",
            remedy="Name an archive of it in MESH_ARCHIVE, if mesh events export made one in time; or publish the missing "
            "history again into a new topic; or begin with the rows that serve now, mesh "
            "deploy --seed-from-live; or build from what is left, mesh deploy --accept-truncated.",
        )

    def _topics_of(self, name: str) -> Sequence[str]:
        return self.entry_topics if name == ENTRY else [self.given.catalog.entities[name].topic]

    def _read(self, names: Sequence[str], found: History, *, copying: bool) -> None:
        """Make the tables of new entity versions, and fill them with history."""
        copied = [
            name
            for name in names
            if copying and can_be_copied(self.given.catalog.entities[name]) and self._has_history(name, found)
        ]
        for name in names:
            self.fresh[name] = self._register_entity(
                self.given.catalog.entities[name], keyed=name not in copied
            )
        rows = [self.fresh[name] for name in names]
        build = Build(
            self.given.database_url,
            self.given.driver,
            self.given.contracts,
            rows,
            self.unread,
            self.given.kept_up,
            frozenset(self.fresh[name].id for name in copied),
            self.given.wishes.processes,
        )
        self.build = build
        with self.connection.transaction():
            for heap in build.heaps.values():
                heap.create(self.connection)
            topics = {topic for row in rows for topic in row.topics}
            there = [self.given.facts[topic] for topic in topics if topic in self.given.facts]
            checkpoints.ensure(self.connection, there, build.id)
            checkpoints.begin(self.connection, found.begins, build.id)
        for row in rows:
            self.given.record.build(row, found.total)
        ids = [row.id for row in rows]
        try:
            with watched(
                self.given.database_url,
                build.id,
                sorted(topics),
                found.total,
                self.given.progress,
                lambda connection, done: Record(connection, self.given.record.id).done(ids, done),
            ):
                build.read_history(found.wanted)
        except CannotBeCopied:
            self.given.progress("reading again, batch by batch: Postgres refuses some record")
            unregister(self.connection, rows)
            drop_orphans(self.connection)
            self._read(names, found, copying=False)
            return
        self.given.record.done(ids, found.total, finished=True)

    def _has_history(self, name: str, found: History) -> bool:
        return any(partition.topic in self._topics_of(name) for partition in found.wanted)

    def _register_entity(self, model: EntityModel, *, keyed: bool) -> VersionRow:
        with self.connection.transaction():
            row = versions.insert_version(
                self.connection,
                kind="entity",
                name=model.name,
                stem=model.table,
                fingerprint=self.given.catalog.fingerprint(model.name),
                declaration=model.to_json(),
                reads={},
                topics=self._topics_of(model.name),
            )
            tables.create_entity_table(self.connection, model, row.relation, keyed=keyed)
        return row

    def _behind(self) -> dict[TopicPartition, int]:
        """Where the live checkpoints are, of topics that somebody reads."""
        assert self.build is not None
        topics = {topic for row in self.build.rows for topic in row.topics} - self.unread
        found = checkpoints.read(self.connection, topics)
        return {partition: row.next_offset for partition, row in found.items() if row.next_offset > 0}

    def _catch_up(self) -> None:
        """Come so close that little is left to do under the barrier."""
        assert self.build is not None
        self.given.progress("catching up")
        for _ in range(CATCH_UP_ROUNDS):
            if not self.build.catch_up(self._behind()):
                return

    def join(self) -> None:
        """Under the barrier: apply up to exactly the live checkpoints; projectors go on from there."""
        for name, live in self.seeded.items():
            self.given.progress(f"beginning with the live rows of {name}")
            seed(self.given.database_url, live, self.fresh[name])
        if self.build is None:
            return
        self.build.catch_up(self._behind())
        self.build.settle()
        served = {
            row.name: row.id for row in self.given.kept_up if (row.kind, row.state) == ("entity", "live")
        }
        checkpoints.take_from_build(self.connection, self.uncounted, self.build.id)
        arriving = [(None, row.id) for row in self.build.rows if row.name not in served]
        recount(self.connection, arriving, list(served.values()), self.uncounted)
        self.connection.execute("DELETE FROM mesh.checkpoints WHERE build = %s", (self.build.id,))
