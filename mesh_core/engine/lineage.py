"""How a row of a view came to be: the events that changed it, and what each changed.

An event touched the row if applying it, by the declaration that serves, changed the row, where all records are applied one
by one in the order of `mesh_core.engine.tracing`. First the records are found that may have had to do with it, then only
these are applied, in tables that are never committed. So nothing live is changed, locked or waited for, and whoever is
killed leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from mesh_core.engine.guard import topic_problem
from mesh_core.engine.judging import Why
from mesh_core.engine.relatives import Relatives
from mesh_core.engine.retelling import RefusedByPostgres, Retelling, Step
from mesh_core.engine.routing import BUILT_IN, routers
from mesh_core.engine.tracing import Log, Trace
from mesh_core.errors import UsageError
from mesh_core.log.interface import Driver
from mesh_core.log.position import Position, TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.event import Contract
from mesh_core.model.identifiers import key_text
from mesh_core.model.view_model import ViewModel
from mesh_core.read.errors import LogIncomplete, NotDeployed, listing, nearest, shown
from mesh_core.read.grammar import point_query
from mesh_core.read.versions import Version
from mesh_core.store import checkpoints, lookups
from mesh_core.store.checkpoints import Checkpoint
from mesh_core.store.connections import connect
from mesh_core.store.held import Place
from mesh_core.store.lookups import Decision
from mesh_core.store.tables import ENTRY
from mesh_core.store.versions import Plan, VersionRow, plan_of, version_rows

LIMITS = (
    "SET lock_timeout = '5s'; SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '5min'"
)
"""Of the session that tells a history: it waits for nobody for long, and nobody for it."""


class UnknownView(UsageError):
    """There is no such view."""


@dataclass(frozen=True)
class Lineage:
    """The steps of a row of version `number` of a view, the oldest first; of all that is below `position`."""

    view: str
    number: int
    position: Position
    steps: Sequence[Step]

    def to_json(self) -> dict[str, Any]:
        """As plain data: each step with its event (`cause`), and all of the row `before` and `after` it."""
        return {
            "view": self.view,
            "version": self.number,
            "position": self.position.to_json(),
            "steps": [
                {"cause": each.cause.to_json(), "before": each.before, "after": each.after}
                for each in self.steps
            ],
        }


@dataclass(frozen=True)
class _Declared:
    """The view that serves, the entity versions that it reads, and the contracts and topics of all that serves."""

    view: VersionRow
    entities: Sequence[VersionRow]
    contracts: Sequence[Contract]
    topics: Sequence[str]

    def plan(self, backend: int) -> Plan:
        """The same under names and numbers that no deploy gives; `backend` tells histories apart that are told at once."""
        ids = {row.id: -1 - n for n, row in enumerate(self.entities)}
        rows = [
            replace(row, id=ids[row.id], relation=f"history_{backend}_{-ids[row.id]}__0", state="live")
            for row in self.entities
        ]
        id_ = -1 - len(ids)
        reads = {name: ids[other] for name, other in self.view.reads.items()}
        rows.append(replace(self.view, id=id_, relation=f"history_{backend}_{-id_}__0", reads=reads))
        return plan_of(0, rows)


def lineage(database_url: str, driver: Driver, view: str, key: str, *, most: int | None = None) -> Lineage:
    """The history of the row of a view that has this canonical key text, as of the live checkpoints.

    At most about `most` records are read of the log. Raises UnknownView, InvalidKey, LogIncomplete, HistoryTooLong,
    LogUnavailable, and psycopg errors of a database that is away or not migrated.
    """
    with connect(database_url, "mesh history") as connection:
        connection.execute(LIMITS)
        declared = _declared(connection, view)
        key_values = _key(declared.view, key)
        live = checkpoints.read(connection, declared.topics)
        with closing(driver.consumer(None)) as consumer:
            log = _log(driver, consumer, live, most)
            return _told(connection, declared, key_values, live, log)


def _told(
    connection: psycopg.Connection[Any],
    declared: _Declared,
    key: Sequence[str],
    live: Mapping[TopicPartition, Checkpoint],
    log: Log,
) -> Lineage:
    decisions, refused = _decisions(connection, live), _refused(connection, declared)
    plan = declared.plan(connection.info.backend_pid)
    (view,) = plan.views
    contracts = [*BUILT_IN, *declared.contracts]
    entry = next((row.relation for row in declared.entities if row.name == ENTRY), "")
    root = view.tables.entities[view.model.root]
    relatives = Relatives(
        view,
        key_text(key[: len(root.record_key)]),
        declared.topics,
        lambda entity, keys, flows: lookups.entries(connection, entry, entity, keys, flows),
    )
    trace = Trace(log, relatives, routers(plan.entities.values(), contracts), decisions)
    trace.run()
    topic_ids = {at.topic: row.topic_id for at, row in live.items()}
    while True:
        connection.autocommit = False
        try:
            retelling = Retelling(
                connection, declared.plan(connection.info.backend_pid), contracts, key, topic_ids, refused
            )
            steps = list(retelling.tell(log.records(trace.places())))
        except RefusedByPostgres as error:
            refused[error.place] = error.why  # as a projector would; told again, with that known
            continue
        finally:
            connection.rollback()
            connection.autocommit = True
        position = Position({at: row.next_offset for at, row in live.items()})
        return Lineage(
            view.model.name, declared.view.number, position.restricted_to(declared.view.topics), steps
        )


def _declared(connection: psycopg.Connection[Any], name: str) -> _Declared:
    rows = version_rows(connection)
    views = {row.name: row for row in rows if (row.kind, row.state) == ("view", "live")}
    if not views:
        raise NotDeployed(remedy="Run mesh deploy.")
    if name not in views:
        raise UnknownView(
            f"There is no view {shown(name)}.",
            remedy=f"{nearest(name, views)}Views: {listing(sorted(views))}.",
        )
    view = views[name]
    entities = [row for row in rows if row.id in view.reads.values()]
    serving = [row for row in rows if row.kind == "entity" and row.state == "live"]
    contracts = [fold.contract for row in (*serving, *entities) for fold in getattr(row.model, "folds", ())]
    # Entries are registered by events of any topic that is read, but of none that nobody reads any more.
    topics = {topic for row in entities for topic in row.topics} & {each.topic for each in contracts}
    return _Declared(view, entities, contracts, sorted(topics | {MESH_TOPIC}))


def _key(row: VersionRow, key: str) -> tuple[str, ...]:
    model = row.model
    assert isinstance(model, ViewModel)
    version = Version(row.id, row.name, row.number, row.relation, model, tuple(row.topics), None)
    return tuple(point_query(version, key).key)


def _log(driver: Driver, consumer: Any, live: Mapping[TopicPartition, Checkpoint], most: int | None) -> Log:
    with closing(driver.admin()) as admin:
        facts = admin.describe(sorted({at.topic for at in live}))
    there = [at for at in live if at.topic in facts and at.partition < facts[at.topic].partitions]
    begins, ends = consumer.beginning_offsets(there), consumer.end_offsets(there)
    for topic in sorted({at.topic for at in live}):
        rows = [row for at, row in live.items() if at.topic == topic]
        if any(row.next_offset for row in rows) and (
            problem := topic_problem(topic, facts.get(topic), rows, begins, ends)
        ):
            raise LogIncomplete(problem, remedy="Restore the topic; a history is read from the log.")
    for at in there:
        if begins[at] > 0 and live[at].next_offset > 0:
            raise LogIncomplete(
                f"The log of {at} starts at offset {begins[at]}: what came before it is gone.",
                remedy="Name an archive of it in MESH_ARCHIVE, if mesh events export made one in time; a history is read from "
                "the first record on.",
            )
    return Log(consumer, begins, {at: live[at].next_offset for at in there}, most)


def _decisions(
    connection: psycopg.Connection[Any], live: Mapping[TopicPartition, Checkpoint]
) -> dict[Place, list[Decision]]:
    found: dict[Place, list[Decision]] = {}
    for decision in lookups.decisions_on(connection, sorted({at.topic for at in live})):
        at = decision.letter[0]
        if at in live and live[at].topic_id == decision.topic_id:
            found.setdefault(decision.letter, []).append(decision)
    return found


def _refused(connection: psycopg.Connection[Any], declared: _Declared) -> dict[Place, Why]:
    """What Postgres is known to have refused of what serves: that may have been for another view."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(
            'SELECT topic, "partition", "offset", reason, detail FROM mesh.held_events '
            "WHERE reason = 'refused_by_postgres' AND version_id = ANY(%s)",
            ([row.id for row in declared.entities],),
        ).fetchall()
    return {
        (TopicPartition(topic, part), offset): (reason, detail)
        for topic, part, offset, reason, detail in rows
    }
