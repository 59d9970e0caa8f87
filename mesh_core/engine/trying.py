"""Tries contracts and projections on real events before they are deployed: nothing of it stays.

The last events of each topic are read by the new contracts, folded into tables that no other transaction sees, and the
views are computed from them. So it shows what no comparison of declarations can: a field that is declared as optional
now, and that old events have under the same name as something else; a column too narrow for what is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mesh_core.contracts.refusals import Refusal
from mesh_core.engine.folding import Folding, Known
from mesh_core.engine.intake import Batch, Intake
from mesh_core.engine.transaction import Applier
from mesh_core.log.errors import LogUnavailable
from mesh_core.log.interface import Chunk, Driver
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_SERVICE
from mesh_core.model.catalog import Catalog
from mesh_core.model.event import Contract
from mesh_core.store import tables
from mesh_core.store.connections import connect
from mesh_core.store.errors import ForeignPartition
from mesh_core.store.faults import fault_of
from mesh_core.store.held import Held, Place
from mesh_core.store.registrations import registered_catalog
from mesh_core.store.versions import VersionRow, plan_of

_POLL = 0.5
_QUIET = 20
"""Polls without any record, after which Kafka is not well."""


@dataclass(frozen=True)
class Broken:
    """A sample that was read before and would not be; `name` is the entity or view that refuses it, if one alone does."""

    partition: TopicPartition
    offset: int
    type: str | None
    reason: str
    detail: str
    name: str | None = None


@dataclass
class Trial:
    """How many records were tried, how many of them left out as they are refused now already, and what would break."""

    records: int = 0
    refused_now: int = 0
    broken: list[Broken] = field(default_factory=list)


def samples(driver: Driver, topics: Collection[str], most: int) -> Iterator[Chunk]:
    """About the last `most` records of each topic, in the order of each partition. Raises LogUnavailable."""
    with driver.admin() as admin:
        facts = admin.describe(sorted(topics))
    partitions = [TopicPartition(each.name, n) for each in facts.values() for n in range(each.partitions)]
    with driver.consumer(None) as consumer:
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        each_of = {at: max(1, -(-most // facts[at.topic].partitions)) for at in partitions}
        at = {p: max(begins[p], ends[p] - each_of[p]) for p in partitions if ends[p] > begins[p]}
        if not at:
            return
        consumer.assign(at)
        quiet = 0
        while any(offset < ends[partition] for partition, offset in consumer.positions().offsets.items()):
            chunks = consumer.poll(1_000, _POLL)
            quiet = 0 if chunks else quiet + 1
            if quiet > _QUIET:
                raise LogUnavailable(
                    f"The log gave nothing for {_QUIET * _POLL:g} s, though samples are missing.",
                    remedy="See that Kafka is well, then ask again.",
                )
            yield from chunks


def attempt(
    database_url: str, catalog: Catalog, before: Iterable[Contract], chunks: Iterable[Chunk]
) -> Trial:
    """Read these records by the contracts `before` and by the catalog's, and project them, in a transaction that is rolled back.

    Views that are registered as data are computed, too. Raises DeclarationError where one does not fit the catalog, and
    psycopg errors of a database that is away or not migrated.
    """
    with connect(database_url, "mesh contracts check") as connection:
        known, catalog = _dead(connection), registered_catalog(connection, catalog)
        connection.autocommit = False
        try:
            return _Attempt(connection, catalog, before, known).run(chunks)
        finally:
            connection.rollback()


class _Attempt:
    def __init__(
        self,
        connection: psycopg.Connection[Any],
        catalog: Catalog,
        before: Iterable[Contract],
        known: Collection[Place],
    ) -> None:
        self._connection, self._known = connection, known
        self._before = Intake((), [each for each in before if each.service != MESH_SERVICE])
        rows = list(_rows(catalog))
        self._plan = plan_of(0, rows)
        for row in rows:
            if row.kind == "entity":
                tables.create_entity_table(connection, catalog.entities[row.name], row.relation)
            else:
                tables.create_view_table(connection, catalog.views[row.name], row.relation)
        contracts = [each for each in catalog.contracts.values() if each.service != MESH_SERVICE]
        self._applier = Applier(connection, self._plan, {}, contracts=contracts)
        self._applier.prepare()
        self._names = {id_: version.model.name for id_, version in self._plan.entities.items()}
        self._trial = Trial()

    def run(self, chunks: Iterable[Chunk]) -> Trial:
        for chunk in chunks:
            if chunk.partition.topic in self._applier.router.intake.decoders:
                self._take(chunk)
        for view in self._plan.views:
            try:
                with self._connection.transaction(), self._connection.cursor() as cursor:
                    view.fill(cursor)
            except psycopg.Error as error:
                self._refused(error, TopicPartition("", -1), -1, None, view.model.name)
        return self._trial

    def _take(self, chunk: Chunk) -> None:
        batch = self._applier.router.intake.batch(chunk)
        kept = []
        for n, item in enumerate(batch.items):
            self._trial.records += 1
            if self._is_refused_now(chunk, n):
                self._trial.refused_now += 1
            elif isinstance(item, Refusal):
                self._trial.broken.append(
                    Broken(chunk.partition, chunk.offsets[n], item.event_type, item.reason, item.detail)
                )
            else:
                kept.append(batch.part(n, n + 1))
        self._project(kept)

    def _is_refused_now(self, chunk: Chunk, n: int) -> bool:
        if (chunk.partition, chunk.offsets[n]) in self._known:
            return True
        if chunk.partition.topic not in self._before.decoders:
            return False
        headers = chunk.headers[n] if chunk.headers else ()
        at = (chunk.partition.partition, chunk.offsets[n], chunk.timestamps[n])
        read = self._before.read(chunk.partition.topic, chunk.values[n], headers, chunk.keys[n], at)
        return isinstance(read, Refusal)

    def _project(self, batches: Sequence[Batch]) -> None:
        """Fold these records and write what they come to; where Postgres refuses some, halves of them."""
        if not batches:
            return
        whole = batches[0].part(0, 1)
        for batch in batches[1:]:
            whole.extend(batch.part(0, 1))
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                folding = self._folding(whole)
                self._applier.take(cursor, folding, [whole])
                self._applier.write_entities(cursor, folding, [])
                self._plan.scratch.empty(cursor)
        except (psycopg.Error, UnicodeEncodeError, ForeignPartition) as error:
            if len(batches) > 1:
                middle = len(batches) // 2
                self._project(batches[:middle])
                self._project(batches[middle:])
                return
            chunk = whole.chunk
            self._refused(error, chunk.partition, chunk.offsets[0], whole.items[0].type, None)
            return
        for row in folding.known.held.new.values():
            if row.status == "dead":
                self._trial.broken.append(
                    Broken(
                        TopicPartition(row.topic, row.partition),
                        row.offset,
                        row.event_type,
                        row.reason,
                        row.detail,
                        self._names.get(row.version_id),
                    )
                )

    def _folding(self, batch: Batch) -> Folding:
        held = Held(())
        return Folding(
            self._applier.routers,
            Known(held, {batch.partition.topic: ""}, {}, {}, {}, {}),
            self._plan.counted,
        )

    def _refused(
        self, error: Exception, partition: TopicPartition, offset: int, kind: str | None, name: str | None
    ) -> None:
        if isinstance(error, psycopg.Error) and fault_of(error) != "data":
            raise error
        detail = str(error).split("\n")[0]
        self._trial.broken.append(Broken(partition, offset, kind, "refused_by_postgres", detail, name))


def _rows(catalog: Catalog) -> Iterator[VersionRow]:
    """A version of each entity and view, under names and numbers that no deploy gives."""
    ids: dict[str, int] = {}
    for name, entity in catalog.entities.items():
        if entity.service == MESH_SERVICE and not any(
            name in view.entities for view in catalog.views.values()
        ):
            continue
        ids[name] = -1 - len(ids)
        yield _row(ids[name], "entity", name, entity.to_json(), {}, [entity.topic])
    for number, (name, view) in enumerate(catalog.views.items(), len(ids) + 1):
        yield _row(-number, "view", name, view.to_json(), {each: ids[each] for each in view.entities}, [])


def _row(
    id_: int,
    kind: str,
    name: str,
    declaration: Mapping[str, Any],
    reads: Mapping[str, int],
    topics: list[str],
) -> VersionRow:
    return VersionRow(id_, kind, name, 0, f"trial_{-id_}__0", "", declaration, reads, topics, "live")


def _dead(connection: psycopg.Connection[Any]) -> frozenset[Place]:
    """Where the records are that are refused now."""
    rows = connection.execute(
        'SELECT DISTINCT topic, "partition", "offset" FROM mesh.held_events WHERE status = \'dead\' AND version_id > 0'
    ).fetchall()
    return frozenset((TopicPartition(topic, number), offset) for topic, number, offset in rows)
