"""Rebuilt equals lived through: a build of any history gives the rows and counts of the naive model, too."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from mesh_core.engine import bulk
from mesh_core.engine.deploy import DeployReport
from mesh_core.engine.deploy_report import Given
from mesh_core.engine.deployment import Deployment
from mesh_core.engine.planning import plan as planned
from mesh_core.engine.pruning import drop_orphans, idle, prunable, prune, unregister
from mesh_core.engine.transaction import Applier
from mesh_core.log.interface import Driver
from mesh_core.store import deploys, versions
from tests.engine.domain import TOPIC_IDS
from tests.engine.histories import History, Plan, chunk_of, histories, plans
from tests.engine.naive import NaiveMesh
from tests.engine.played import PlayedLog
from tests.engine.test_histories import Engine, compare, engine, facts_of, naive
from tests.engine.totals import CATALOG

__all__ = ["engine"]  # the fixture


def build(engine: Engine, history: History, *, records: int, anew: bool) -> DeployReport:
    """Build every entity from the log as it is; what serves until then stays, unless the mesh begins `anew`."""
    connection = engine.connection
    if anew:
        rows = versions.version_rows(connection)
        connection.execute("DROP SCHEMA read CASCADE; CREATE SCHEMA read")
        unregister(connection, rows)
        drop_orphans(connection)
        rows = []
    else:
        rows = versions.version_rows(connection)
    facts = {topic: facts_of(topic) for topic in TOPIC_IDS}
    changes = planned(CATALOG, rows, list(CATALOG.entities))
    report = DeployReport()
    record = deploys.begin(connection, changes.to_json())
    log, contracts = cast(Driver, PlayedLog(history, records)), list(CATALOG.contracts.values())
    given = Given(connection, engine.url, log, contracts, CATALOG, facts, sorted(facts), record, rows)
    Deployment(given, changes, report).run()
    rows = versions.version_rows(connection)
    prune(connection, prunable(rows, idle(rows)))
    engine.applier = Applier(connection, versions.live_plan(connection), {})
    return report


def in_order(history: History) -> Plan:
    """The delivery that a build makes: what the mesh published first, then topic by topic."""
    partitions = sorted(history.ends, key=lambda at: (at.topic != "mesh.events", at))
    return Plan(history, tuple((chunk_of(history, at, 0, len(history.of(at))),) for at in partitions))


@pytest.mark.timeout(400)
@given(plan=plans(), records=st.integers(1, 20))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_rebuilt_equals_lived_through(engine: Engine, plan: Plan, records: int) -> None:
    lived_then_built(engine, plan, records)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(plan=plans(), records=st.integers(1, 20))
@settings(max_examples=150, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_rebuilt_equals_lived_through_at_length(engine: Engine, plan: Plan, records: int) -> None:
    lived_then_built(engine, plan, records)


def lived_then_built(engine: Engine, plan: Plan, records: int) -> None:
    note(str(plan))
    engine.reset()
    engine.deliver(plan)
    report = build(engine, plan.history, records=records, anew=False)
    assert all(proof.equal for proof in report.proofs), report.proofs
    compare(engine, without_categories(engine, naive(plan)))


def without_categories(engine: Engine, mesh: NaiveMesh) -> Any:
    """Of a record that a version held and another did not, it is not known whether that one applied or ignored it."""
    for at, counts in engine.counters().items():
        if at in mesh.counters:
            mesh.counters[at]["ignored"] += mesh.counters[at]["applied"] - counts["applied"]
            mesh.counters[at]["applied"] = counts["applied"]
    return mesh


@pytest.mark.timeout(400)
@given(history=histories(), records=st.integers(1, 20), window=st.integers(1, 12))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_first_build_equals_living_through_it(
    engine: Engine, history: History, records: int, window: int
) -> None:
    built_at_once(engine, history, records, window)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(history=histories(), records=st.integers(1, 20), window=st.integers(1, 12))
@settings(max_examples=150, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_first_build_equals_living_through_it_at_length(
    engine: Engine, history: History, records: int, window: int
) -> None:
    built_at_once(engine, history, records, window)


def built_at_once(engine: Engine, history: History, records: int, window: int) -> None:
    plan = in_order(history)
    note(str(plan))
    engine.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "WINDOW_ROWS", window)
        build(engine, history, records=records, anew=True)
    compare(engine, naive(plan))
