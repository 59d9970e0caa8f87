"""Makes the read models match their declarations.

What is new or changed is built beside what serves, then takes its place in one transaction under the barrier.
A view is computed from entity tables that exist; an entity is replayed from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg

from mesh_core.engine.building import Builder
from mesh_core.engine.deploy_report import DeployReport, Progress, Step, Topics, make_topics
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.intake import Intake
from mesh_core.engine.recounting import missed_decision, recount
from mesh_core.engine.swapping import swap
from mesh_core.log.interface import Driver, TopicFacts
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.catalog import Catalog
from mesh_core.model.entity import EntityModel
from mesh_core.store import checkpoints, tables, versions
from mesh_core.store.connections import connect
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
    with connect(database_url, "mesh deploy") as connection, closing(driver.admin()) as admin:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        live = {(row.kind, row.name): row for row in versions.version_rows(connection, "live")}
        also = {topic for row in live.values() for topic in row.topics}
        facts = make_topics(admin, catalog, topics, also, report)
        with connection.transaction():
            checkpoints.ensure(connection, facts.values())
        builder = Builder(database_url, driver, _intake(catalog, live))
        entry_topics = sorted({*catalog.topics, MESH_TOPIC, *also})
        Deployment(connection, builder, catalog, facts, entry_topics, live, report, progress).run()
    return report


@dataclass
class Deployment:
    """One deploy, under the deploy lock: what is registered, replayed, joined and swapped."""

    connection: psycopg.Connection[Any]
    builder: Builder
    catalog: Catalog
    facts: Mapping[str, TopicFacts]
    entry_topics: Sequence[str]
    """Every topic that is declared or feeds a live version: any event may register an entry of a workflow."""
    live: Mapping[tuple[str, str], VersionRow]
    """What serves when the deploy begins, by kind and name."""
    report: DeployReport
    progress: Progress
    noticed: int = 0
    """How many warnings there were before the final transaction."""
    exchanges: list[Callable[[], None]] = field(default_factory=list)
    """What the final transaction does to tables and names that others read."""

    def run(self) -> None:
        """Do it all. Raises DeployRefused before anything that serves is touched."""
        self._forget_interrupted()
        self.noticed = len(self.report.warnings)
        fresh = {
            name: self._register_entity(model)
            for name, model in self.catalog.entities.items()
            if self._differs("entity", name)
        }
        for row in fresh.values():
            self._replay(row)
        swap(self.connection, lambda: self._make_all_live(fresh))
        self._report_unused()

    def _make_all_live(self, fresh: Mapping[str, VersionRow]) -> None:
        """The final transaction; it may be tried again."""
        self.report.steps.clear()
        del self.report.warnings[self.noticed :]
        self.exchanges.clear()
        for row in fresh.values():
            self._join(row)
        self._recount(fresh)
        self._swap_entities(fresh)
        self._feed_entries()
        self._swap_views()
        self._feed_entry_views()
        for exchange in self.exchanges:  # last of all, since readers wait from here on
            exchange()
        versions.raise_generation(self.connection)

    def _differs(self, kind: str, name: str) -> bool:
        row = self.live.get((kind, name))
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
            self.connection.execute(f"DELETE FROM mesh.{table} WHERE version_id = %s", (row.id,))
        self.connection.execute("DELETE FROM mesh.checkpoints WHERE build = %s", (row.id,))

    def _register_entity(self, model: EntityModel) -> VersionRow:
        topics = self.entry_topics if model.name == ENTRY else [model.topic]
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
            there = [self.facts[topic] for topic in topics if topic in self.facts]
            checkpoints.ensure(self.connection, there, row.id)
        return row

    def _replay(self, row: VersionRow) -> None:
        """Bring a building entity close to the live checkpoints. A topic nobody consumed yet needs nothing."""
        live = checkpoints.read(self.connection, row.topics)
        wanted = {p: checkpoint.next_offset for p, checkpoint in live.items() if checkpoint.next_offset > 0}
        if wanted:
            topics = {partition.topic for partition in wanted}
            read = {
                partition: checkpoint for partition, checkpoint in live.items() if partition.topic in topics
            }
            self.builder.check_history(row, read, self.facts)
            self.progress(f"replaying {row.name} from {', '.join(row.topics)}")
            self.builder.apply_up_to(row, wanted)

    def _join(self, row: VersionRow) -> None:
        """Under the barrier: apply up to exactly the live checkpoints, and hand over."""
        wanted = {
            partition: checkpoint.next_offset
            for partition, checkpoint in checkpoints.read(self.connection, row.topics).items()
        }
        self.builder.apply_up_to(row, wanted)
        if missed_decision(self.connection, row.id):
            raise DeployRefused(
                f"A dead letter was decided while {row.name} was being built, after its record had been passed.",
                remedy="Deploy again; what serves is untouched.",
            )
        self.connection.execute("DELETE FROM mesh.checkpoints WHERE build = %s", (row.id,))

    def _recount(self, fresh: Mapping[str, VersionRow]) -> None:
        before = {name: self.live.get(("entity", name)) for name in fresh}
        pairs = [(old.id if (old := before[name]) else None, row.id) for name, row in fresh.items()]
        recount(self.connection, pairs)

    def _swap_entities(self, fresh: Mapping[str, VersionRow]) -> None:
        for name, model in self.catalog.entities.items():
            before, row = self.live.get(("entity", name)), fresh.get(name)
            if row is None:
                assert before is not None
                self.report.steps.append(Step("entity", name, "unchanged", before.relation))
                continue
            if before is not None:
                self._drop_readers(before)
            columns = [column.name for column in model.columns]
            self._make_live(row, before, model.table, columns)
            self.report.steps.append(Step("entity", name, "changed" if before else "new", row.relation))

    def _drop_readers(self, entity: VersionRow) -> None:
        """Views that are no longer declared and read an entity version that goes, go with it."""
        for (kind, name), row in self.live.items():
            if kind == "view" and name not in self.catalog.views and entity.id in row.reads.values():
                self.exchanges.append(partial(self._drop_view, row))
                self.report.steps.append(Step("view", name, "dropped", row.relation))
                self.report.warnings.append(
                    f"The view {name} is not declared any more, and went with the version of {entity.name} that it read."
                )

    def _drop_view(self, row: VersionRow) -> None:
        self.connection.execute(f'DROP VIEW IF EXISTS read."{row.name}"')
        self._drop(row)

    def _make_live(
        self, row: VersionRow, before: VersionRow | None, stem: str, columns: Sequence[str]
    ) -> None:
        if before is not None:
            self.connection.execute("UPDATE mesh.versions SET state = 'previous' WHERE id = %s", (before.id,))
        self.connection.execute(
            "UPDATE mesh.versions SET state = 'live', live_at = clock_timestamp() WHERE id = %s", (row.id,)
        )
        self.exchanges.append(lambda: tables.swap_stable_name(self.connection, stem, row.relation, columns))
        if before is not None:
            self.exchanges.append(lambda: self._drop(before))

    def _feed_entries(self) -> None:
        """Entries that serve on are fed by the topics that came with this deploy, too."""
        self.connection.execute(
            "UPDATE mesh.versions SET topics = %s WHERE kind = 'entity' AND name = %s AND state = 'live'",
            (self.entry_topics, ENTRY),
        )

    def _feed_entry_views(self) -> None:
        """So are the views that read entries: their positions and how fresh they are count these topics."""
        self.connection.execute(
            "UPDATE mesh.versions AS view SET topics = (SELECT array_agg(DISTINCT topic) FROM mesh.versions AS entity, "
            "unnest(entity.topics) AS topic WHERE entity.id IN (SELECT value::int FROM jsonb_each_text(view.reads))) "
            "WHERE kind = 'view' AND state = 'live' AND reads ? %s",
            (ENTRY,),
        )

    def _swap_views(self) -> None:
        rows = versions.version_rows(self.connection, "live")
        entities = {row.name: row for row in rows if row.kind == "entity"}
        for name, model in self.catalog.views.items():
            before = self.live.get(("view", name))
            reads = {entity: entities[entity].id for entity in sorted(model.entities)}
            if before is not None and not self._differs("view", name) and before.reads == reads:
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
                for entity in plan.entities.values():
                    tables.analyze_once(cursor, entity.relation)
                count = plan.views[0].fill(cursor)
            self._make_live(row, before, model.table, [column.name for column in model.columns])
            self.report.steps.append(Step("view", name, "changed" if before else "new", row.relation, count))

    def _report_unused(self) -> None:
        gone = {(step.kind, step.name) for step in self.report.steps if step.change == "dropped"}
        known: Iterable[tuple[Any, str]] = self.live
        for kind, name in known:
            declared = self.catalog.entities if kind == "entity" else self.catalog.views
            if name not in declared and (kind, name) not in gone:
                self.report.steps.append(Step(kind, name, "unused", self.live[kind, name].relation))


def _intake(catalog: Catalog, live: Mapping[tuple[str, str], VersionRow]) -> Intake:
    """Decodes the topics of what is declared, and of what serves though it no longer is."""
    left = [
        EntityModel.from_json(row.declaration)
        for (kind, name), row in live.items()
        if kind == "entity" and name not in catalog.entities
    ]
    return Intake([*left, *catalog.entities.values()], catalog.contracts.values())


__all__ = ["DeployReport", "Deployment", "Step", "Topics", "deploy"]
