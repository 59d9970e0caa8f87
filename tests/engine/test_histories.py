"""Any history, however it is delivered, gives the rows and counts that the naive model gives.

On real Postgres; the log is played by chunks, so that every split and interleaving can be tried.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import cycle
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from mesh_core.engine import transaction
from mesh_core.engine.checking import check
from mesh_core.engine.deploy_report import DeployReport, Given
from mesh_core.engine.deployment import Deployment
from mesh_core.engine.draining import Draining
from mesh_core.engine.errors import Unforeseen
from mesh_core.engine.intake import Batch
from mesh_core.engine.planning import plan as planned
from mesh_core.engine.resilience import apply_resiliently
from mesh_core.engine.routing import Router
from mesh_core.engine.session import Session
from mesh_core.engine.transaction import Applier
from mesh_core.log.interface import Chunk, Driver, TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.store import checkpoints, deploys, scratch, versions
from mesh_core.store.migrate import migrate
from tests.engine.domain import PARTITIONS, TOPIC_IDS
from tests.engine.events import Said
from tests.engine.histories import Decide, Plan, Say, chunk_of, plans, records_of, written
from tests.engine.naive import NaiveMesh
from tests.engine.played import EMPTY, PlayedLog
from tests.engine.totals import CATALOG
from tests.support.services import fresh_database

OUTCOMES = ("consumed", "applied", "ignored", "dead_lettered", "parked")


def facts_of(topic: str) -> TopicFacts:
    return TopicFacts(topic, TOPIC_IDS[topic], PARTITIONS[topic], "delete", -1, -1)


@dataclass(repr=False)
class Engine:
    """The engine on a database of its own, emptied for every history."""

    url: str
    connection: psycopg.Connection[Any]
    applier: Applier

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("engine")

    def reset(self) -> None:
        rows = versions.version_rows(self.connection)
        tables = ", ".join(f'data."{row.relation}"' for row in rows)
        self.connection.execute(
            f"TRUNCATE {tables}, mesh.held_events, mesh.decisions, mesh.event_index, mesh.sequences, mesh.recent_ids, "
            "mesh.fan_out"
        )
        self.connection.execute(
            "UPDATE mesh.checkpoints SET next_offset = 0, consumed = 0, applied = 0, ignored = 0, dead_lettered = 0, parked = 0"
        )

    def deliver(self, plan: Plan, after_poll: Callable[[], None] = lambda: None) -> None:
        standing: dict[TopicPartition, int] = {}
        for number, poll in enumerate(plan.polls):
            # A projector folds ahead; whoever does not, builds or tries again. Both must come to the same.
            ahead = self.applier.ahead() if number % 3 else None
            batches = self._read(poll, standing)
            if ahead is not None:
                for batch in batches:
                    ahead.fold_ahead(batch)
            try:
                done = apply_resiliently(self.applier, batches, ahead)
            except Unforeseen:
                done = apply_resiliently(self.applier, self._read(poll, standing))
            standing.update(done.positions)
            after_poll()

    def _read(self, poll: Sequence[Chunk], standing: dict[TopicPartition, int]) -> list[Batch]:
        """What is new in a poll."""
        starts = [(chunk, standing.get(chunk.partition, 0)) for chunk in poll]
        fresh = [(after(chunk, start), start) for chunk, start in starts]
        return [
            self.applier.router.intake.batch(chunk) for chunk, start in fresh if chunk.next_offset > start
        ]

    def entity(self, name: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        model = CATALOG.entities[name]
        return self._rows(model.table, model.key)

    def view(self, name: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        return self._rows(name, CATALOG.views[name].key)

    def _rows(self, table: str, key: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(f'SELECT * FROM read."{table}"').fetchall()
        return {tuple(row[name] for name in key): row for row in rows}

    def counters(self) -> dict[tuple[str, int], dict[str, int]]:
        rows = self.connection.execute(
            f'SELECT topic, "partition", {", ".join(OUTCOMES)} FROM mesh.checkpoints WHERE build = 0'
        ).fetchall()
        return {(topic, number): dict(zip(OUTCOMES, counts, strict=True)) for topic, number, *counts in rows}


def after(chunk: Chunk, start: int) -> Chunk:
    """What of a chunk comes after a checkpoint: the projector seeks there, however much is redelivered."""
    kept = [n for n, offset in enumerate(chunk.offsets) if offset >= start]
    first = kept[0] if kept else len(chunk.offsets)
    return Chunk(
        chunk.partition,
        chunk.keys[first:],
        chunk.values[first:],
        chunk.offsets[first:],
        chunk.timestamps[first:],
        chunk.headers[first:],
        chunk.next_offset,
        start,
    )


@pytest.fixture(scope="module")
def engine(services: Any) -> Iterator[Engine]:
    with fresh_database(services.database_url) as url:
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            set_json_loads(partial(json.loads, parse_float=Decimal), connection)
            facts = {topic: facts_of(topic) for topic in TOPIC_IDS}
            with connection.transaction():
                checkpoints.ensure(connection, facts.values())
            changes = planned(CATALOG, [])
            record = deploys.begin(connection, changes.to_json())
            log, contracts = cast(Driver, PlayedLog(EMPTY)), list(CATALOG.contracts.values())
            given = Given(connection, url, log, contracts, CATALOG, facts, sorted(facts), record)
            Deployment(given, changes, DeployReport()).run()
            plan = versions.live_plan(connection)
            yield Engine(url, connection, Applier(connection, plan, {}))


def naive(plan: Plan) -> NaiveMesh:
    mesh = NaiveMesh(CATALOG, TOPIC_IDS)
    for poll in plan.polls:
        for chunk in poll:
            for record in records_of(chunk):
                mesh.apply(record)
    return mesh


def compare(engine: Engine, mesh: NaiveMesh) -> None:
    for name in CATALOG.entities:
        assert engine.entity(name) == mesh.rows[name], name
    for name in CATALOG.views:
        assert engine.view(name) == mesh.view(name), name
    counters = engine.counters()
    for at, counts in mesh.counters.items():
        assert counters[at] == {outcome: counts[outcome] for outcome in OUTCOMES}, at
    assert all(result.clean for result in check(engine.url))


@pytest.mark.timeout(400)  # a busy machine takes several times as long
@given(plan=plans())
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
def test_the_engine_gives_what_the_naive_model_gives(engine: Engine, plan: Plan) -> None:
    note(str(plan))
    engine.reset()
    engine.deliver(plan)
    compare(engine, naive(plan))


def test_an_edit_that_is_refused_again_holds_what_was_behind(engine: Engine) -> None:
    item = {"product_id": 1, "quantity": 2, "unit_price": Decimal(12)}
    placed = {
        "order_id": 1,
        "customer_id": "c1",
        "placed_at": "2026-01-01T10:00:00Z",
        "items": [item],
        "note": None,
    }

    def priced(price: str) -> Said:
        data = {"order_id": 1, "product_id": 1, "unit_price": Decimal(price)}
        return Said("sales.events", "1", "sales.order.item_priced.v1", data)

    history = written(
        [
            Say(Said("sales.events", "1", "sales.order.placed.v1", placed), False, None, None, 0),
            Say(priced("3"), False, None, "not_json", 0),
            Say(priced("2.50"), False, None, None, 0),
            Decide(1, False, "edit", priced("0.333"), None),
        ]
    )
    order = sorted(history.ends, key=lambda partition: partition.topic == "mesh.events")
    plan = Plan(history, tuple((chunk_of(history, at, 0, len(history.of(at))),) for at in order))
    engine.reset()
    engine.deliver(plan)
    compare(engine, naive(plan))
    assert engine.entity("sales.line")[1, 1]["unit_price"] == 12
    assert engine.counters()["sales.events", order[0].partition] == {
        "consumed": 3, "applied": 1, "ignored": 0, "dead_lettered": 1, "parked": 1,
    }  # fmt: skip


def fans_out(engine: Engine, plan: Plan, steps: Sequence[int]) -> None:
    """Deliver so that whatever may reach several roots is queued; `steps` are those that are drained after each poll."""
    fanning = replace(engine, applier=Applier(engine.connection, engine.applier.plan, {}, fan_out_limit=0))
    session = SimpleNamespace(applier=fanning.applier, connected=lambda: engine.connection)
    draining = Draining(cast(Session, session), chunk=2, listed=3)
    left = cycle(steps)

    def drain_some() -> None:
        for _ in range(next(left)):
            draining.step()

    engine.reset()
    fanning.deliver(plan, drain_some)
    assert all(result.clean for result in check(engine.url))
    draining.finish()
    assert engine.connection.execute("SELECT count(*) FROM mesh.fan_out").fetchone() == (0,)
    compare(fanning, naive(plan))


@pytest.mark.timeout(400)
@given(plan=plans())
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_it_gives_the_same_where_each_entity_reads_for_itself(engine: Engine, plan: Plan) -> None:
    """As versions do that know other contracts of the same events; the first of all routers decodes what is polled.

    And where no batch is so small that it is pipelined, and temporary tables are truncated.
    """
    note(str(plan))
    applier = Applier(engine.connection, engine.applier.plan, {})
    intake = applier.router.intake
    applier.routers = [Router({id_: version}, intake) for id_, version in applier.plan.entities.items()]
    engine.reset()
    apart = replace(engine, applier=applier)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "PIPELINED", -1)
        patch.setattr(scratch, "DEAD", 5)
        apart.deliver(plan)
    compare(apart, naive(plan))


STEPS = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@pytest.mark.timeout(400)
@given(plan=plans(), steps=STEPS)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_it_gives_the_same_where_everything_fans_out(engine: Engine, plan: Plan, steps: list[int]) -> None:
    note(str(plan))
    fans_out(engine, plan, steps)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(plan=plans(), steps=STEPS)
@settings(max_examples=2000, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_gives_the_same_where_everything_fans_out_at_length(
    engine: Engine, plan: Plan, steps: list[int]
) -> None:
    note(str(plan))
    fans_out(engine, plan, steps)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(plan=plans())
@settings(max_examples=5000, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_engine_gives_what_the_naive_model_gives_at_length(engine: Engine, plan: Plan) -> None:
    note(str(plan))
    engine.reset()
    engine.deliver(plan)
    compare(engine, naive(plan))
