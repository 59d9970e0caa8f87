"""Makes the read models match their declarations.

What is new or changed is built beside what serves, then takes its place in one transaction under the barrier.
A view is computed from entity tables that exist; an entity is replayed from the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg

from mesh_core.engine.deploy_report import DeployReport, Progress, Step, Topics, make_topics
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.intake import Intake
from mesh_core.engine.resilience import apply_resiliently
from mesh_core.engine.routing import Router
from mesh_core.engine.transaction import Applier
from mesh_core.log.interface import Consumer, Driver, TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.model.catalog import Catalog
from mesh_core.model.entity import EntityModel
from mesh_core.store import checkpoints, tables, versions
from mesh_core.store.tables import ENTRY
from mesh_core.store.versions import VersionRow

LOCK = 0x6465706C  # "depl"; a session lock, so that deploys follow one another


def deploy(
    database_url: str,
    catalog: Catalog,
    driver: Driver,
    topics: Topics,
    progress: Progress = lambda line: None,
) -> DeployReport:
    """Build and swap what differs from `catalog`. What the catalog no longer has is left as it is.

    Raises DeployRefused when the log cannot give the history that a build needs; what serves is untouched.
    """
    report = DeployReport()
    with psycopg.connect(database_url, autocommit=True) as connection, closing(driver.admin()) as admin:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        facts = make_topics(admin, catalog, topics, report)
        with connection.transaction():
            checkpoints.ensure(connection, facts.values())
        Deployment(connection, database_url, catalog, driver, facts, report, progress).run()
    return report


@dataclass
class Deployment:
    """One deploy, under the deploy lock: what is registered, replayed, joined and swapped."""

    connection: psycopg.Connection[Any]
    database_url: str
    catalog: Catalog
    driver: Driver
    facts: Mapping[str, TopicFacts]
    report: DeployReport
    progress: Progress

    def run(self) -> None:
        """Do it all. Raises DeployRefused before anything that serves is touched."""
        self._forget_interrupted()
        live = {(row.kind, row.name): row for row in versions.version_rows(self.connection, "live")}
        fresh = {
            name: self._register_entity(model)
            for name, model in self.catalog.entities.items()
            if self._differs("entity", name, live)
        }
        for name, row in fresh.items():
            self._replay(row, self.catalog.entities[name])
        with self.connection.transaction(), self.connection.cursor() as cursor:
            # The barrier: nobody else commits a batch until the new versions are live.
            checkpoints.lock_live(cursor)
            for name, row in fresh.items():
                self._join(row, self.catalog.entities[name])
            self._swap_entities(fresh, live)
            self._swap_views(live)
            versions.raise_generation(self.connection)
        self._report_unused(live)

    def _differs(self, kind: str, name: str, live: Mapping[tuple[str, str], VersionRow]) -> bool:
        row = live.get((kind, name))
        return row is None or row.fingerprint != self.catalog.fingerprint(name)

    def _forget_interrupted(self) -> None:
        """Drop what an earlier deploy left half-built."""
        for row in versions.version_rows(self.connection, "building"):
            with self.connection.transaction():
                self._drop(row)

    def _drop(self, row: VersionRow) -> None:
        tables.drop_version(self.connection, row.relation)
        self.connection.execute("DELETE FROM mesh.versions WHERE id = %s", (row.id,))
        for table in ("held_events", "sequences", "recent_ids"):
            self.connection.execute(
                f"DELETE FROM mesh.{table} WHERE version_id IN (%s, %s)", (row.id, -row.id)
            )
        self.connection.execute("DELETE FROM mesh.checkpoints WHERE build = %s", (row.id,))

    def _register_entity(self, model: EntityModel) -> VersionRow:
        topics = sorted(self.facts) if model.name == ENTRY else [model.topic]
        with self.connection.transaction():
            row = versions.insert_version(
                self.connection,
                kind="entity",
                name=model.name,
                stem=model.table,
                fingerprint=self.catalog.fingerprint(model.name),
                declaration=model.to_json(),
                reads={},
                topics=topics,
            )
            tables.create_entity_table(self.connection, model, row.relation)
            checkpoints.ensure(self.connection, [self.facts[topic] for topic in topics], row.id)
        return row

    def _replay(self, row: VersionRow, model: EntityModel) -> None:
        """Bring a building entity close to the live checkpoints. A topic nobody consumed yet needs nothing."""
        wanted = {
            partition: checkpoint.next_offset
            for partition, checkpoint in checkpoints.read(self.connection, row.topics).items()
            if checkpoint.next_offset > 0
        }
        if wanted:
            self._check_history(row, wanted)
            self.progress(f"replaying {model.name} from {', '.join(row.topics)}")
            self._apply_up_to(row, wanted)

    def _check_history(self, row: VersionRow, wanted: Mapping[TopicPartition, int]) -> None:
        consumer = self.driver.consumer(None)
        try:
            starts = consumer.beginning_offsets(list(wanted))
        finally:
            consumer.close()
        cut = {partition: offset for partition, offset in starts.items() if offset > 0}
        if cut:
            facts = ", ".join(f"{partition} starts at {offset}" for partition, offset in sorted(cut.items()))
            raise DeployRefused(
                f"{row.name} cannot be built: the log no longer has its beginning ({facts}).",
                remedy="Publish the missing history again into a new topic.",
            )

    def _join(self, row: VersionRow, model: EntityModel) -> None:
        """Under the barrier: apply up to exactly the live checkpoints, and hand over."""
        wanted = {
            partition: checkpoint.next_offset
            for partition, checkpoint in checkpoints.read(self.connection, row.topics).items()
        }
        self._apply_up_to(row, wanted)
        self.connection.execute("DELETE FROM mesh.held_events WHERE version_id = %s", (-row.id,))
        self.connection.execute("DELETE FROM mesh.checkpoints WHERE build = %s", (row.id,))

    def _apply_up_to(self, row: VersionRow, wanted: Mapping[TopicPartition, int]) -> None:
        """Apply records of the log to one building entity until its checkpoints are at `wanted`."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            plan = versions.plan_of(0, [row])
            contracts = self.catalog.contracts.values()
            router = Router(plan.entities, Intake(self.catalog.entities.values(), contracts))
            applier = Applier(connection, plan, router, {}, row.id)
            standing = {p: c.next_offset for p, c in checkpoints.read(connection, row.topics, row.id).items()}
            behind = {p: standing[p] for p, offset in wanted.items() if standing[p] < offset}
            if not behind:
                return
            consumer = self.driver.consumer(None)
            try:
                consumer.assign(behind)
                self._consume(consumer, applier, behind, wanted)
            finally:
                consumer.close()

    @staticmethod
    def _consume(
        consumer: Consumer,
        applier: Applier,
        standing: dict[TopicPartition, int],
        wanted: Mapping[TopicPartition, int],
    ) -> None:
        while any(offset < wanted[partition] for partition, offset in standing.items()):
            batches = []
            for chunk in consumer.poll(20_000, 1.0):
                partition = chunk.partition
                if standing[partition] >= wanted[partition]:
                    continue
                batch = applier.router.intake.batch(chunk, standing[partition])
                if chunk.next_offset > wanted[partition]:
                    count = sum(offset < wanted[partition] for offset in chunk.offsets)
                    batch = batch.part(0, count) if count < len(chunk.offsets) else batch
                    batch.chunk.next_offset = wanted[partition]
                batches.append(batch)
            if batches:
                standing.update(apply_resiliently(applier, batches).positions)

    def _swap_entities(
        self, fresh: Mapping[str, VersionRow], live: Mapping[tuple[str, str], VersionRow]
    ) -> None:
        for name, model in self.catalog.entities.items():
            before, row = live.get(("entity", name)), fresh.get(name)
            if row is None:
                assert before is not None
                self.report.steps.append(Step("entity", name, "unchanged", before.relation))
                continue
            if before is not None:
                self._drop_readers(before, live)
            columns = [column.name for column in model.columns]
            self._make_live(row, before, model.table, columns)
            self.report.steps.append(Step("entity", name, "changed" if before else "new", row.relation))

    def _drop_readers(self, entity: VersionRow, live: Mapping[tuple[str, str], VersionRow]) -> None:
        """Views that are no longer declared and read an entity version that goes, go with it."""
        for (kind, name), row in live.items():
            if kind == "view" and name not in self.catalog.views and entity.id in row.reads.values():
                self.connection.execute(f'DROP VIEW IF EXISTS read."{name}"')
                self._drop(row)
                self.report.steps.append(Step("view", name, "dropped", row.relation))
                self.report.warnings.append(
                    f"The view {name} is not declared any more, and went with the version of {entity.name} that it read."
                )

    def _make_live(
        self, row: VersionRow, before: VersionRow | None, stem: str, columns: Sequence[str]
    ) -> None:
        if before is not None:
            self.connection.execute("UPDATE mesh.versions SET state = 'previous' WHERE id = %s", (before.id,))
        self.connection.execute(
            "UPDATE mesh.versions SET state = 'live', live_at = clock_timestamp() WHERE id = %s", (row.id,)
        )
        tables.swap_stable_name(self.connection, stem, row.relation, columns)
        if before is not None:
            self._drop(before)

    def _swap_views(self, live: Mapping[tuple[str, str], VersionRow]) -> None:
        rows = versions.version_rows(self.connection, "live")
        entities = {row.name: row for row in rows if row.kind == "entity"}
        for name, model in self.catalog.views.items():
            before = live.get(("view", name))
            reads = {entity: entities[entity].id for entity in sorted(model.entities)}
            if before is not None and not self._differs("view", name, live) and before.reads == reads:
                self.report.steps.append(Step("view", name, "unchanged", before.relation))
                continue
            self.progress(f"computing {name}")
            row = versions.insert_version(
                self.connection,
                kind="view",
                name=name,
                stem=model.table,
                fingerprint=self.catalog.fingerprint(name),
                declaration=model.to_json(),
                reads=reads,
                topics=sorted({topic for entity in model.entities for topic in entities[entity].topics}),
            )
            tables.create_view_table(self.connection, model, row.relation)
            relations = {entity: entities[entity].relation for entity in reads}
            tables.create_indexes(self.connection, model, self.catalog.entities, relations)
            plan = versions.plan_of(0, [*(entities[entity] for entity in reads), row])
            with self.connection.cursor() as cursor:
                count = plan.views[0].fill(cursor)
            self._make_live(row, before, model.table, [column.name for column in model.columns])
            self.report.steps.append(Step("view", name, "changed" if before else "new", row.relation, count))

    def _report_unused(self, live: Mapping[tuple[str, str], VersionRow]) -> None:
        gone = {(step.kind, step.name) for step in self.report.steps if step.change == "dropped"}
        known: Iterable[tuple[Any, str]] = live
        for kind, name in known:
            declared = self.catalog.entities if kind == "entity" else self.catalog.views
            if name not in declared and (kind, name) not in gone:
                self.report.steps.append(Step(kind, name, "unused", live[kind, name].relation))


__all__ = ["DeployReport", "Deployment", "Step", "Topics", "deploy"]
