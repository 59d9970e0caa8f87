"""Makes the read models match their declarations, beside what serves.

1. New entity versions are replayed from the log, on checkpoints of their own.
2. Under the barrier they reach exactly the live checkpoints and join: from then on projectors keep them up. A snapshot
   is fixed in which the new views are computed; projectors queue the roots that they touch meanwhile.
3. The queues are drained; under the barrier the rest, and the views join too.
4. New and live versions are compared in one snapshot.
5. Under the barrier the new ones take the place of the old, which are kept up for a rollback.

Whatever interrupts this, what serves is untouched, and the next deploy starts anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg

from mesh_core.engine.building import Build, CannotBeCopied
from mesh_core.engine.bulk import can_be_copied
from mesh_core.engine.deploy_report import (
    AS_DECLARED,
    DeployReport,
    Progress,
    Step,
    Topics,
    Wishes,
    make_topics,
)
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.filling import Snapshot, drain, drain_rest
from mesh_core.engine.history import History, history
from mesh_core.engine.planning import DeployPlan, Planned, plan
from mesh_core.engine.progress import watched
from mesh_core.engine.proving import prove
from mesh_core.engine.pruning import drop_orphans, prunable, prune, unregister
from mesh_core.engine.recounting import recount
from mesh_core.engine.swapping import Swap, alone, barrier
from mesh_core.log.interface import Driver, TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.catalog import Catalog
from mesh_core.model.entity import EntityModel
from mesh_core.model.event import Contract
from mesh_core.model.view import ViewModel
from mesh_core.store import checkpoints, deploys, tables, versions
from mesh_core.store.connections import connect
from mesh_core.store.deploys import Record
from mesh_core.store.tables import ENTRY
from mesh_core.store.versions import VersionRow

CATCH_UP_ROUNDS = 3


def deploy(
    database_url: str,
    catalog: Catalog,
    driver: Driver,
    topics: Topics,
    progress: Progress = lambda line: None,
    wishes: Wishes = AS_DECLARED,
) -> DeployReport:
    """Build and swap what differs from `catalog`, and what is wished. What it no longer has is left as it is.

    Raises DeployRefused when the log cannot give the history that a build needs, or when new and live rows differ
    though they must not; what serves is untouched.
    """
    report = DeployReport()
    with connect(database_url, "mesh deploy") as connection, closing(driver.admin()) as admin:
        alone(connection, progress)
        unregister(connection, interrupted(connection))
        drop_orphans(connection)
        rows = versions.version_rows(connection)
        also = {topic for row in rows for topic in row.topics}
        facts = make_topics(admin, catalog, topics, also, report)
        with connection.transaction():
            checkpoints.ensure(connection, facts.values())
        changes = plan(catalog, rows, wishes.rebuild)
        record = deploys.begin(connection, changes.to_json())
        deployment = Deployment(
            connection,
            database_url,
            Sources(driver, _contracts(catalog, rows)),
            catalog,
            facts,
            sorted({*catalog.topics, MESH_TOPIC, *also}),
            changes,
            report,
            progress,
            wishes,
            record,
            [row for row in rows if row.state == "live"],
        )
        try:
            deployment.run()
            record.end("done", [asdict(proof) for proof in report.proofs])
        except BaseException as error:
            if not (connection.closed or connection.broken):
                unregister(connection, interrupted(connection))
                drop_orphans(connection)
                ending: deploys.Ending = "refused" if isinstance(error, DeployRefused) else "failed"
                record.end(
                    ending, [asdict(proof) for proof in report.proofs], f"{type(error).__name__}: {error}"
                )
            raise
    return report


def interrupted(connection: psycopg.Connection[Any]) -> list[VersionRow]:
    """Versions that a deploy left half-built. Nobody else may be deploying."""
    unfinished = ("building", "queued", "joined")
    return [row for row in versions.version_rows(connection) if row.state in unfinished]


@dataclass(frozen=True)
class Sources:
    """Where history comes from, and the contracts of all that may be in it."""

    driver: Driver
    contracts: Sequence[Contract]


@dataclass
class Deployment:
    """One deploy, under the deploy lock."""

    connection: psycopg.Connection[Any]
    database_url: str
    builds: Sources
    catalog: Catalog
    facts: Mapping[str, TopicFacts]
    entry_topics: Sequence[str]
    """Every topic that is declared or feeds a version: any event may register an entry of a workflow."""
    plan: DeployPlan
    report: DeployReport
    progress: Progress
    wishes: Wishes
    record: Record
    serving: Sequence[VersionRow] = ()
    """What is live when the deploy begins."""
    unread: frozenset[str] = frozenset()
    """Topics of new entities that nobody has read before."""
    build: Build | None = None
    fresh: dict[str, VersionRow] = field(default_factory=dict)
    """New entity versions by name."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows of the views that were filled, by name."""

    def run(self) -> None:
        """Do it all. Raises DeployRefused before anything that serves is touched."""
        if self.plan.changes:
            older = [row for row in versions.version_rows(self.connection) if row.state == "previous"]
            revived = {step.revived.id for step in self.plan.steps if step.revived is not None}
            self._build_entities()
            views = self._build_views()
            self._prove(views)
            self._swap(views)
            self._forget([row.id for row in older if row.id not in revived])
        else:
            self._feed()
        live = versions.version_rows(self.connection, "live")
        relations = {(row.kind, row.name): row.relation for row in live}
        for step in self.plan.steps:
            relation = relations.get((step.kind, step.name), "")
            self.report.steps.append(
                Step(step.kind, step.name, step.change, step.details, relation, self.counts.get(step.name))
            )

    # ---- entities

    def _build_entities(self) -> None:
        names = [step.name for step in self.plan.steps if step.kind == "entity" and step.built]
        if not names:
            return
        topics = {topic for name in names for topic in self._topics_of(name)}
        live = checkpoints.read(self.connection, topics)
        read = set(versions.live_plan(self.connection).topics)
        self.unread = frozenset(
            topic
            for topic in topics - read
            if all(row.next_offset == 0 for at, row in live.items() if at.topic == topic)
        )
        self.progress(f"replaying {', '.join(names)} from {', '.join(sorted(topics))}")
        found = history(
            self.builds.driver, live, self.facts, self.unread, accept_truncated=self.wishes.accept_truncated
        )
        self._read(names, found, copying=True)
        self._catch_up()

    def _topics_of(self, name: str) -> Sequence[str]:
        return self.entry_topics if name == ENTRY else [self.catalog.entities[name].topic]

    def _read(self, names: Sequence[str], found: History, *, copying: bool) -> None:
        """Make the tables of new entity versions, and fill them with history."""
        copied = [
            name
            for name in names
            if copying and can_be_copied(self.catalog.entities[name]) and self._has_history(name, found)
        ]
        for name in names:
            self.fresh[name] = self._register_entity(self.catalog.entities[name], keyed=name not in copied)
        rows = list(self.fresh.values())
        build = Build(
            self.database_url,
            self.builds.driver,
            self.builds.contracts,
            rows,
            self.unread,
            self.serving,
            frozenset(self.fresh[name].id for name in copied),
            self.wishes.processes,
        )
        self.build = build
        with self.connection.transaction():
            for heap in build.heaps.values():
                heap.create(self.connection)
            topics = {topic for row in rows for topic in row.topics}
            there = [self.facts[topic] for topic in topics if topic in self.facts]
            checkpoints.ensure(self.connection, there, build.id)
            checkpoints.begin(self.connection, found.begins, build.id)
        for row in rows:
            self.record.build(row, found.total)
        ids = [row.id for row in rows]
        try:
            with watched(self.database_url, self.record, ids, sorted(topics), found.total, self.progress):
                build.read_history(found.wanted)
        except CannotBeCopied:
            self.progress("reading again, batch by batch: Postgres refuses some record")
            unregister(self.connection, rows)
            drop_orphans(self.connection)
            self._read(names, found, copying=False)
            return
        self.record.done(ids, found.total, finished=True)

    def _has_history(self, name: str, found: History) -> bool:
        return any(partition.topic in self._topics_of(name) for partition in found.wanted)

    def _register_entity(self, model: EntityModel, *, keyed: bool) -> VersionRow:
        with self.connection.transaction():
            row = versions.insert_version(
                self.connection,
                kind="entity",
                name=model.name,
                stem=model.table,
                fingerprint=self.catalog.fingerprint(model.name),
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
        self.progress("catching up")
        for _ in range(CATCH_UP_ROUNDS):
            self.build.catch_up(self._behind())

    def _join(self) -> None:
        """Under the barrier: apply up to exactly the live checkpoints; projectors go on from there."""
        if self.build is None:
            return
        self.build.catch_up(self._behind())
        self.build.settle()
        served = {row.name: row.id for row in self.serving if row.kind == "entity"}
        checkpoints.take_from_build(self.connection, self.unread, self.build.id)
        arriving = [(None, row.id) for row in self.build.rows if row.name not in served]
        recount(self.connection, arriving, list(served.values()), self.unread)
        self.connection.execute("DELETE FROM mesh.checkpoints WHERE build = %s", (self.build.id,))

    # ---- views

    def _build_views(self) -> list[VersionRow]:
        entities = self._entities()
        views = [
            self._register_view(self.catalog.views[step.name], entities)
            for step in self.plan.steps
            if step.kind == "view" and step.built
        ]
        snapshot: list[Snapshot] = []

        def join() -> None:
            while snapshot:  # of an attempt before
                snapshot.pop().close()
            self._join()
            versions.set_state(self.connection, [row.id for row in self.fresh.values()], "joined")
            versions.set_state(self.connection, [row.id for row in views], "queued")
            snapshot.append(Snapshot(self.database_url))
            versions.raise_generation(self.connection)

        try:
            barrier(self.connection, join)
            if views:
                read = {id_ for view in views for id_ in view.reads.values()}
                rows = versions.version_rows(self.connection)
                queued = [row for row in rows if row.state == "queued"]
                self.counts = snapshot[0].fill(queued, [row for row in rows if row.id in read], self.progress)
        finally:
            for open_ in snapshot:
                open_.close()
        if views:
            for view in views:
                self.record.done([view.id], self.counts[view.name], finished=True)
            self._drain()
        return views

    def _entities(self) -> dict[str, VersionRow]:
        """The entity versions that new views read, by name."""
        found = {}
        for step in self.plan.steps:
            row = self._target(step) if step.kind == "entity" else None
            if row is not None:
                found[step.name] = row
        return found

    def _target(self, step: Planned) -> VersionRow | None:
        """The version that serves after this deploy; None for a view that is built."""
        if step.built:
            return self.fresh.get(step.name) if step.kind == "entity" else None
        return step.revived or step.live

    def _register_view(self, model: ViewModel, entities: Mapping[str, VersionRow]) -> VersionRow:
        relations = {entity: entities[entity].relation for entity in model.entities}
        tables.create_indexes(self.connection, model, self.catalog.entities, relations)
        with self.connection.transaction():
            row = versions.insert_version(
                self.connection,
                kind="view",
                name=model.name,
                stem=model.table,
                fingerprint=self.catalog.fingerprint(model.name),
                declaration=model.to_json(),
                reads={entity: entities[entity].id for entity in sorted(model.entities)},
                topics=sorted({topic for entity in model.entities for topic in entities[entity].topics}),
            )
            tables.create_view_table(self.connection, model, row.relation)
            self.record.build(row, None)
        return row

    def _drain(self) -> None:
        queued = versions.live_plan(self.connection).queued
        drain(self.connection, queued)

        def join() -> None:
            drain_rest(self.connection, queued)
            versions.set_state(self.connection, [view.id for view in queued], "joined")
            versions.raise_generation(self.connection)

        barrier(self.connection, join)

    # ---- proof and swap

    def _prove(self, views: Sequence[VersionRow]) -> None:
        new = {("entity", row.name): row for row in self.fresh.values()} | {
            ("view", row.name): row for row in views
        }
        pairs = [
            (step.live, new[step.kind, step.name])
            for step in self.plan.steps
            if step.built and step.live is not None
        ]
        if pairs:
            self.progress("comparing with what serves")
        self.report.proofs += prove(self.database_url, pairs)
        differing = [proof for proof in self.report.proofs if not proof.equal]
        if differing and self.wishes.require_equal:
            said = "; ".join(
                f"{proof.name}: {proof.different} different, {proof.missing} missing, {proof.unexpected} unexpected, "
                f"such as {', '.join('/'.join(map(str, key)) for key in proof.samples[:3])}"
                for proof in differing
            )
            raise DeployRefused(
                f"New rows are not equal to those that serve. {said}.",
                remedy="Deploy without --require-equal if the change is meant; what serves is untouched.",
            )

    def _swap(self, views: Sequence[VersionRow]) -> None:
        new = [
            *self.fresh.values(),
            *views,
            *(step.revived for step in self.plan.steps if step.revived is not None),
        ]
        swap = Swap(self.connection, new)

        def steps() -> None:
            swap.run()
            self._feed_rows()
            versions.raise_generation(self.connection)

        barrier(self.connection, steps)

    def _forget(self, ids: Collection[int]) -> None:
        """Versions before the previous ones are kept up no longer: a rollback undoes one deploy."""
        rows = versions.version_rows(self.connection)
        gone = [row for row in prunable(rows) if row.id in ids and row.state == "previous"]
        self.report.warnings += prune(self.connection, gone)

    # ---- entries of workflows

    def _feed(self) -> None:
        """Let entries be fed by the topics that came with this deploy, where nothing else changes."""
        with self.connection.transaction(), self.connection.cursor() as cursor:
            checkpoints.lock_live(cursor)
            self._feed_rows()

    def _feed_rows(self) -> None:
        """Entries are fed by all topics, and so are the views that read them: freshness and positions count these."""
        self.connection.execute(
            "UPDATE mesh.versions SET topics = %s WHERE kind = 'entity' AND name = %s",
            (self.entry_topics, ENTRY),
        )
        self.connection.execute(
            "UPDATE mesh.versions AS view SET topics = (SELECT array_agg(DISTINCT topic) FROM mesh.versions AS entity, "
            "unnest(entity.topics) AS topic WHERE entity.id IN (SELECT value::int FROM jsonb_each_text(view.reads))) "
            "WHERE kind = 'view' AND reads ? %s",
            (ENTRY,),
        )


def _contracts(catalog: Catalog, rows: Sequence[VersionRow]) -> list[Contract]:
    """Contracts of what serves though it is not declared any more, then of what is declared."""
    left = [
        fold.contract
        for row in rows
        if row.kind == "entity" and row.state == "live"
        for fold in EntityModel.from_json(row.declaration).folds
    ]
    return [*left, *catalog.contracts.values()]


__all__ = ["DeployReport", "Deployment", "Step", "Topics", "Wishes", "deploy"]
