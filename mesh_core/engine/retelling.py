"""Applies records one by one to tables that no other transaction sees, and tells what each made of one row of a view.

The engine's own folding does it. What a projector remembers in control tables (who is held, last sequences, recent ids,
decisions) is kept in memory here: no statement touches a table that a projector or a migration waits for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from mesh_core.contracts.refusals import Refusal
from mesh_core.engine.compiled import CompiledFold
from mesh_core.engine.folding import Folding, Known
from mesh_core.engine.intake import Batch
from mesh_core.engine.judging import Why
from mesh_core.engine.release import Release, decision_among
from mesh_core.engine.transaction import Applier
from mesh_core.log.interface import Chunk
from mesh_core.log.position import TopicPartition
from mesh_core.model.event import Contract
from mesh_core.model.states import State, same
from mesh_core.store import tables
from mesh_core.store.faults import fault_of
from mesh_core.store.held import Held, HeldRow, Line, Place, Record, text_of_key
from mesh_core.store.lookups import Decision, RecentIds
from mesh_core.store.tables import columns_sql, needed_indexes, physical
from mesh_core.store.versions import Plan
from mesh_core.store.view_query import view_select
from mesh_core.store.view_writes import ViewVersion


@dataclass(frozen=True)
class Cause:
    """An event that changed a row. What it does not say, or cannot be read, is None.

    `released` are the records that a decision on a dead letter had applied.
    """

    service: str | None
    type: str | None
    id: str | None
    subject: str
    time: datetime | None
    recorded_at: datetime
    workflow_id: str | None
    topic: str
    partition: int
    offset: int
    released: Sequence[Place] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data, but for times."""
        return {
            **{each.name: getattr(self, each.name) for each in fields(self)},
            "released": [
                {"topic": at.topic, "partition": at.partition, "offset": offset}
                for at, offset in self.released
            ],
        }


@dataclass(frozen=True)
class Step:
    """What one event made of the row: all its columns before and after, None where there is no row."""

    cause: Cause
    before: State | None
    after: State | None


class RefusedByPostgres(Exception):
    """Postgres would not take what a record comes to; the transaction is lost."""

    def __init__(self, place: Place, why: Why) -> None:
        super().__init__(*why)
        self.place, self.why = place, why


class Waiting:
    """What is held, as mesh.held_events would have it."""

    def __init__(self) -> None:
        self._rows: dict[Place, dict[int, HeldRow]] = {}
        self._lines: dict[Line, dict[int, HeldRow]] = {}

    @property
    def lines(self) -> Iterable[Line]:
        """Those in which something is held."""
        return self._lines

    def chain(self, line: Line) -> list[HeldRow]:
        """All that is held in a line, in the order of the log."""
        return [row for _, row in sorted(self._lines.get(line, {}).items())]

    def at(self, place: Place) -> list[HeldRow]:
        """What holds one record, by version."""
        return [row for _, row in sorted(self._rows.get(place, {}).items())]

    def take(self, held: Held) -> None:
        """What a transaction dropped, and what it added."""
        for line in held.dropped:
            for row in self._lines.pop(line, {}).values():
                del self._rows[row.place][row.version_id]
        for row in held.new.values():
            self._rows.setdefault(row.place, {})[row.version_id] = row
            self._lines.setdefault(row.line, {})[row.offset] = row


class _Noting(Folding):
    """A folding that notes which records it applied."""

    def __init__(self, applier: Applier, known: Known) -> None:
        super().__init__(applier.routers, known, applier.plan.counted)
        self.changed: dict[Place, None] = {}

    def change(self, record: Record, item: Any, fold: CompiledFold) -> str:
        """Fold an event into one entity, now."""
        self.changed[record.partition, record.offset] = None
        return super().change(record, item, fold)


class Retelling:
    """The tables and the memory of one telling, on a connection in a transaction that its owner rolls back."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        plan: Plan,
        contracts: Iterable[Contract],
        key: Sequence[str],
        topic_ids: Mapping[str, str],
        refused: Mapping[Place, Why],
    ) -> None:
        """Makes the tables. `key` has the canonical texts of the row's key; `refused` is what Postgres is known to refuse."""
        self._connection, self._plan, self._topic_ids = connection, plan, topic_ids
        self._refused = dict(refused)
        (view,) = plan.views
        for version in plan.entities.values():
            version.nodes = ()  # which roots are touched is nothing that has to be found out
            tables.create_entity_table(connection, version.model, version.relation)
        relations = {name: version.relation for name, version in view.sources.items()}
        for name, definition in sorted(set(needed_indexes(view.model, view.tables.entities))):
            connection.execute(f"CREATE INDEX ON {physical(relations[name])} {definition}")
        self._applier = Applier(connection, plan, {}, contracts=contracts)
        self._applier.prepare()
        self._select = _row_select(connection, view, key)
        self._waiting, self._decisions = Waiting(), dict[Place, list[Decision]]()
        self._sequences, self._recent = dict[tuple[int, str], int](), RecentIds()
        self._row: State | None = None

    def tell(self, records: Iterable[Chunk]) -> Iterator[Step]:
        """The steps of the row, of records in their order. Raises RefusedByPostgres, and what reading the records does."""
        # In a pipeline a step waits for Postgres once or twice; the answer of its last statement tells of all that failed.
        with self._connection.pipeline(), self._connection.cursor() as cursor:
            for chunk in records:
                try:
                    step = self._step(cursor, self._applier.router.intake.batch(chunk))
                except (psycopg.Error, UnicodeEncodeError) as error:
                    if fault_of(error) != "data":
                        raise
                    detail = str(error).split("\n")[0]
                    why = ("refused_by_postgres", detail)
                    raise RefusedByPostgres((chunk.partition, chunk.offsets[0]), why) from error
                if step is not None:
                    yield step

    def _step(self, cursor: psycopg.Cursor[Any], batch: Batch) -> Step | None:
        place = (batch.partition, batch.chunk.offsets[0])
        decision = decision_among([batch], self._applier.router)
        folding = _Noting(self._applier, self._known(batch.partition, place))
        release = Release(folding, decision if decision is not None and self._counts(decision) else None)
        release.find(self._waiting.at, self._waiting.chain)
        self._applier.take(cursor, folding, [batch], release.groups(), remembered=True)
        met = set(folding.changed)
        release.fold()
        self._remember(folding)
        if not self._write(cursor, folding):
            return None
        before, after = self._row, self._now()
        if same(before, after):
            return None
        self._row = after
        return Step(self._cause(batch, [each for each in folding.changed if each not in met]), before, after)

    def _known(self, partition: TopicPartition, place: Place) -> Known:
        decisions = {place: self._decisions[place]} if place in self._decisions else {}
        refused = {place: self._refused[place]} if place in self._refused else {}
        return Known(
            Held(self._waiting.lines), self._topic_ids, decisions, self._sequences, self._recent, refused
        )

    def _counts(self, decision: Decision) -> bool:
        """Whether a decision is on a record of a topic that is still the same."""
        return self._topic_ids.get(decision.topic) == decision.topic_id

    def _remember(self, folding: Folding) -> None:
        self._waiting.take(folding.known.held)
        self._sequences.update(folding.sequences)
        self._recent.update(folding.recent)
        for decision in filter(self._counts, folding.decided):
            self._decisions.setdefault(decision.letter, []).append(decision)

    def _write(self, cursor: psycopg.Cursor[Any], folding: Folding) -> bool:
        """Write what was folded; whether that was anything."""
        writes: list[Any] = []
        written = self._applier.write_entities(cursor, folding, writes)
        for write in writes:
            write.check(cursor)
        if written:
            self._plan.scratch.empty(cursor)
        return bool(written)

    def _now(self) -> State | None:
        found = self._connection.execute(self._select).fetchone()
        return None if found is None else json.loads(found[0], parse_float=Decimal)

    def _cause(self, batch: Batch, released: Sequence[Place]) -> Cause:
        item, chunk = batch.items[0], batch.chunk
        envelope = item.envelope if isinstance(item, Refusal) else item
        kind, time = getattr(envelope, "type", None), getattr(envelope, "time", None)
        workflow = getattr(envelope, "workflowid", None)
        versions = self._applier.router.of_topic(batch.partition.topic)
        service = kind.partition(".")[0] if kind else next((each.model.service for each in versions), None)
        return Cause(
            service,
            kind,
            getattr(envelope, "id", None),
            text_of_key(batch.keys[0]),
            time if time is None else time.astimezone(UTC),
            datetime.fromtimestamp(chunk.timestamps[0] / 1000, UTC),
            None if workflow is None else str(workflow),
            batch.partition.topic,
            batch.partition.partition,
            chunk.offsets[0],
            sorted(released),
        )


def _row_select(connection: psycopg.Connection[Any], view: ViewVersion, key: Sequence[str]) -> bytes:
    """The statement of the row as JSON, as the API has it; puts its key where that looks for it."""
    root = view.tables.entities[view.model.root]
    values = ", ".join(f"%s::{root.column(name).type.sql}" for name in view.model.key)
    connection.execute(
        f"INSERT INTO {view.keys} ({columns_sql(view.model.key)}) VALUES ({values})", list(key)
    )
    select = view_select(view.model, view.tables, view.keys, many=False)
    return f"SELECT row_to_json(v)::text FROM ({select}) AS v".encode()
