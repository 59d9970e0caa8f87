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
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mesh_core.engine.deploy_report import DeployReport, Given, Step
from mesh_core.engine.entity_builds import EntityBuilds
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.filling import Snapshot, drain, drain_rest
from mesh_core.engine.planning import DeployPlan, Kind, Planned
from mesh_core.engine.proving import prove
from mesh_core.engine.pruning import prunable, prune
from mesh_core.engine.swapping import Swap, barrier
from mesh_core.model.view_model import ViewModel
from mesh_core.store import checkpoints, grants, tables, versions
from mesh_core.store.tables import ENTRY
from mesh_core.store.versions import VersionRow


@dataclass
class Deployment:
    """One deploy, under the deploy lock."""

    given: Given
    plan: DeployPlan
    report: DeployReport
    entities: EntityBuilds = field(init=False)
    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows of the views that were filled, by name."""

    def __post_init__(self) -> None:
        self.entities = EntityBuilds(self.given)

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection that has the deploy lock."""
        return self.given.connection

    def run(self) -> None:
        """Do it all. Raises DeployRefused before anything that serves is touched."""
        if self.plan.changes:
            older = [
                row for row in versions.version_rows(self.connection) if row.state in ("previous", "kept")
            ]
            revived = {step.revived.id for step in self.plan.steps if step.revived is not None}
            self.entities.run(self._built("entity"))
            views = self._build_views()
            self._prove(views)
            forgotten = [row.id for row in older if row.id not in revived]
            self._swap(views, forgotten)
            self._forget(forgotten)
        else:
            self._feed()
            self._present()
        live = versions.version_rows(self.connection, "live")
        relations = {(row.kind, row.name): row.relation for row in live}
        for step in self.plan.steps:
            relation = relations.get((step.kind, step.name), "")
            self.report.steps.append(
                Step(step.kind, step.name, step.change, step.details, relation, self.counts.get(step.name))
            )

    # ---- views

    def _build_views(self) -> list[VersionRow]:
        entities = self._entities()
        views = [
            self._register_view(self.given.catalog.views[name], entities) for name in self._built("view")
        ]
        snapshot: list[Snapshot] = []

        def join() -> None:
            while snapshot:  # of an attempt before
                snapshot.pop().close()
            self.entities.join()
            versions.set_state(self.connection, [row.id for row in self.entities.fresh.values()], "joined")
            versions.set_state(self.connection, [row.id for row in views], "queued")
            snapshot.append(Snapshot(self.given.database_url))
            versions.raise_generation(self.connection)

        try:
            barrier(self.connection, join)
            if views:
                read = {id_ for view in views for id_ in view.reads.values()}
                rows = versions.version_rows(self.connection)
                queued = [row for row in rows if row.state == "queued"]
                self.counts = snapshot[0].fill(
                    queued, [row for row in rows if row.id in read], self.given.progress
                )
        finally:
            for open_ in snapshot:
                open_.close()
        if views:
            for view in views:
                self.given.record.done([view.id], self.counts[view.name], finished=True)
            self._drain()
        return views

    def _built(self, kind: Kind) -> list[str]:
        return [step.name for step in self.plan.steps if step.kind == kind and step.built]

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
            return self.entities.fresh.get(step.name) if step.kind == "entity" else None
        return step.revived or step.live

    def _register_view(self, model: ViewModel, entities: Mapping[str, VersionRow]) -> VersionRow:
        relations = {entity: entities[entity].relation for entity in model.entities}
        tables.create_indexes(self.connection, model, self.given.catalog.entities, relations)
        with self.connection.transaction():
            row = versions.insert_version(
                self.connection,
                kind="view",
                name=model.name,
                stem=model.table,
                fingerprint=self.given.catalog.fingerprint(model.name),
                declaration=model.to_json(),
                reads={entity: entities[entity].id for entity in sorted(model.entities)},
                topics=sorted({topic for entity in model.entities for topic in entities[entity].topics}),
                presentation=model.presentation,
            )
            tables.create_view_table(self.connection, model, row.relation)
            self.given.record.build(row, None)
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
        new = {("entity", row.name): row for row in self.entities.fresh.values()} | {
            ("view", row.name): row for row in views
        }
        pairs = [
            (step.live, new[step.kind, step.name])
            for step in self.plan.steps
            if step.built and step.live is not None
        ]
        if pairs:
            self.given.progress("comparing with what serves")
        self.report.proofs += prove(self.given.database_url, pairs)
        differing = [proof for proof in self.report.proofs if not proof.equal]
        if differing and self.given.wishes.require_equal:
            said = "; ".join(
                f"{proof.name}: {proof.different} different, {proof.missing} missing, {proof.unexpected} unexpected, "
                f"such as {', '.join('/'.join(map(str, key)) for key in proof.samples[:3])}"
                for proof in differing
            )
            raise DeployRefused(
                f"New rows are not equal to those that serve. {said}.",
                remedy="Deploy without --require-equal if the change is meant; what serves is untouched.",
            )

    def _swap(self, views: Sequence[VersionRow], forgotten: Collection[int]) -> None:
        new = [
            *self.entities.fresh.values(),
            *views,
            *(step.revived for step in self.plan.steps if step.revived is not None),
        ]
        swap = Swap(self.connection, new)

        def steps() -> None:
            swap.run()
            versions.set_state(self.connection, forgotten, "kept")  # no rollback must meet two of one name
            self._feed_rows()
            versions.present(self.connection, self.plan.presentations)
            grants.declare(self.connection, self.plan.grants)
            versions.raise_generation(self.connection)

        barrier(self.connection, steps)

    def _forget(self, ids: Collection[int]) -> None:
        """Versions before the previous ones are kept up no longer: a rollback undoes one deploy."""
        gone = prunable(versions.version_rows(self.connection), ids)
        try:
            self.report.warnings += prune(self.connection, gone)
        except psycopg.errors.LockNotAvailable:
            self.report.warnings.append(
                "Versions before the previous ones are in use; mesh prune drops them."
            )

    def _present(self) -> None:
        """Say what the catalog says of views, and grants, where nothing else changes: readers look again."""
        with self.connection.transaction():
            said = versions.present(self.connection, self.plan.presentations)
            if grants.declare(self.connection, self.plan.grants) or said:
                versions.raise_generation(self.connection)

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
            (self.entities.entry_topics, ENTRY),
        )
        self.connection.execute(
            "UPDATE mesh.versions AS view SET topics = (SELECT array_agg(DISTINCT topic) FROM mesh.versions AS entity, "
            "unnest(entity.topics) AS topic WHERE entity.id IN (SELECT value::int FROM jsonb_each_text(view.reads))) "
            "WHERE kind = 'view' AND reads ? %s",
            (ENTRY,),
        )
