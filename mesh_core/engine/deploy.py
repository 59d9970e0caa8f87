"""Makes the read models match their declarations: one deploy at a time, recorded, cleared up after if it fails."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from mesh_core.engine.building import make_ready
from mesh_core.engine.deploy_report import (
    AS_DECLARED,
    DeployReport,
    Given,
    Progress,
    Topics,
    Wishes,
    make_topics,
)
from mesh_core.engine.deployment import Deployment
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.planning import DeployPlan, plan
from mesh_core.engine.pruning import drop_orphans, unregister
from mesh_core.engine.settling import settle
from mesh_core.engine.swapping import alone
from mesh_core.errors import DependencyUnavailable, UsageError
from mesh_core.log.interface import Admin, Driver
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.catalog import Catalog
from mesh_core.store import checkpoints, deploys, grants, versions
from mesh_core.store.connections import connect
from mesh_core.store.registrations import registered_catalog, registrations
from mesh_core.store.versions import VersionRow


def deploy(
    database_url: str,
    catalog: Catalog,
    driver: Driver,
    topics: Topics,
    progress: Progress = lambda line: None,
    wishes: Wishes = AS_DECLARED,
    announced: int | None = None,
) -> DeployReport:
    """Build and swap what differs from `catalog` and what is registered besides, and what is wished.

    What they no longer have is left as it is. `announced` is the number of the record that the deploy has already.

    Raises DeployRefused when the log cannot give the history that a build needs, when new and live rows differ though
    they must not, or when there are changes where nothing else was to be done, and what serves is untouched;
    DeclarationError when a registered view does not fit the catalog; UsageError for a name to rebuild that nobody
    declares; DependencyUnavailable when Postgres fails meanwhile.
    """
    with connect(database_url, "mesh deploy") as connection, closing(driver.admin()) as admin:
        alone(connection, progress)
        unregister(connection, interrupted(connection))
        drop_orphans(connection)
        warnings = settle(connection, admin, driver, progress)
        first = registrations(connection) is None
        work = _Work(database_url, driver, topics, progress, wishes, connection, admin)
        report = work.make(registered_catalog(connection, catalog), warnings, announced)
        if first and (whole := registered_catalog(connection, catalog)).views.keys() != catalog.views.keys():
            # The log of a mesh whose tables are gone has registrations, which only now are rows.
            report.add(work.make(whole, [], None))
    return report


@dataclass(frozen=True)
class _Work:
    """What a deploy has, whatever the catalog is; `connection` has the deploy lock."""

    database_url: str
    driver: Driver
    topics: Topics
    progress: Progress
    wishes: Wishes
    connection: psycopg.Connection[Any]
    admin: Admin

    def make(self, catalog: Catalog, warnings: list[str], announced: int | None) -> DeployReport:
        """Make what serves match the catalog; `warnings` are what was noticed before."""
        connection, wishes, report = self.connection, self.wishes, DeployReport(warnings=warnings)
        _refuse_unknown(catalog, wishes.rebuild)
        rows = versions.version_rows(connection)
        changes = plan(catalog, rows, wishes.rebuild, grants.declared(connection))
        if wishes.nothing_else:
            _refuse_other_changes(catalog, changes)
        if wishes.processes > 1 and any(step.kind == "entity" and step.built for step in changes.steps):
            make_ready()
        also = {topic for row in rows for topic in row.topics}
        facts = make_topics(self.admin, catalog, self.topics, also, report)
        with connection.transaction():
            checkpoints.ensure(connection, facts.values())
        record = deploys.begin(connection, changes.to_json(), announced)
        given = Given(
            connection,
            self.database_url,
            self.driver,
            [*versions.served_contracts(rows), *catalog.contracts.values()],  # what is declared counts
            catalog,
            facts,
            sorted({*catalog.topics, MESH_TOPIC, *also}),
            record,
            [row for row in rows if row.state in versions.KEPT_UP],
            self.progress,
            wishes,
        )
        try:
            Deployment(given, changes, report).run()
            record.end("done", [asdict(proof) for proof in report.proofs], " ".join(report.warnings) or None)
        except BaseException as error:
            with suppress(psycopg.OperationalError):  # the next deploy clears up
                unregister(connection, interrupted(connection))
                drop_orphans(connection)
                record.fail(error, [asdict(proof) for proof in report.proofs])
            if isinstance(error, psycopg.OperationalError):
                first = str(error).strip().split("\n")[0].rstrip(".")
                raise DependencyUnavailable(
                    f"Postgres failed during the deploy: {first}.",
                    remedy="Deploy again once it is well; what serves is whole.",
                ) from error
            raise
        return report


def _refuse_unknown(catalog: Catalog, names: Collection[str]) -> None:
    if unknown := [name for name in names if name not in catalog.entities and name not in catalog.views]:
        known = ", ".join([*catalog.views, *catalog.entities])
        raise UsageError(f"The catalog declares no {unknown[0]!r}.", remedy=f"It declares: {known}.")


def _refuse_other_changes(catalog: Catalog, changes: DeployPlan) -> None:
    other = [
        step.name
        for step in changes.steps
        if step.change != "unused"
        and (step.live is None or step.live.fingerprint != catalog.fingerprint(step.name))
    ]
    if other:
        raise DeployRefused(
            f"A rebuild is of what serves, but the catalog has changes that are not deployed: {', '.join(other)}.",
            remedy="See mesh plan, then run mesh deploy; or rebuild with the catalog that was deployed.",
        )


def interrupted(connection: psycopg.Connection[Any]) -> list[VersionRow]:
    """Versions that a deploy left half-built. Nobody else may be deploying."""
    unfinished = ("building", "queued", "joined")
    return [row for row in versions.version_rows(connection) if row.state in unfinished]


__all__ = ["DeployReport", "Topics", "Wishes", "deploy"]
