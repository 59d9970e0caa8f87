"""The projector's transaction: everything that one batch does, in this order.

1. Checkpoints FOR UPDATE in (topic, partition) order: the barrier. Offset and fence must be what we hold.
2. Versions, held keys, decisions and look-ups, read after the lock in fresh statements.
3. Fold. Entity rows: one statement a patch shape, of rows that are staged before or, if they are few, bound to it.
4. View locks by version id; then affected roots, and their rows, or the fan-out queue where these are many.
5. Held events, event index, sequences, decisions; whether every row was ours to write; checkpoints; NOTIFY; commit.

Every transaction takes its locks in this order, so none can deadlock with another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mesh_core.engine.errors import PlanChanged, Unforeseen
from mesh_core.engine.folding import Folding, Known
from mesh_core.engine.intake import Batch
from mesh_core.engine.judging import Refused
from mesh_core.engine.looking_up import Group, look_up
from mesh_core.engine.release import Release, decision_among
from mesh_core.engine.routing import BUILT_IN, Router, routers
from mesh_core.engine.rows import foreign_partition
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import REMEMBERED
from mesh_core.model.event import Contract
from mesh_core.store import checkpoints, fan_out, held, lookups, versions
from mesh_core.store.checkpoints import Advance, Checkpoint, Counts
from mesh_core.store.connections import transaction
from mesh_core.store.entity_writes import EntityVersion, Shape
from mesh_core.store.errors import Fenced
from mesh_core.store.held import Held, Place
from mesh_core.store.lookups import Decided, Decision, News
from mesh_core.store.versions import LIVE, Plan
from mesh_core.telemetry import stage

PIPELINED = 200
"""Records that are applied with as few waits for Postgres as there can be: one takes half as long. More are copied faster."""


@dataclass(frozen=True)
class Applied:
    """What a transaction did: the checkpoints after it, and the outcomes by topic partition."""

    positions: Mapping[TopicPartition, int]
    counts: Mapping[TopicPartition, Counts]


@dataclass(frozen=True)
class _Write:
    """How many rows of an entity version were staged, and how many of them were written."""

    version: EntityVersion
    staged: int
    written: Callable[[], int]
    rows: Sequence[Sequence[Any]] = ()
    """Those that are not in the staging table."""

    def check(self, cursor: psycopg.Cursor[Any]) -> None:
        """Raises ForeignPartition if another partition owns some of them."""
        if self.written() != self.staged:
            self.version.stage(cursor, self.rows)
            key, ours, theirs = self.version.foreign(cursor)
            raise foreign_partition(self.version, key, theirs, ours)


@dataclass
class Applier:
    """Applies batches to the versions of a plan, on one connection.

    `fences` are those that this projector took its partitions over with. `build` tells whose checkpoints move.
    Batches are decoded by `router`, the first of `routers`; the others have versions that know other contracts of the
    same events, and decode anew. `contracts` are known besides those that the versions fold.
    A build is `indexing` events of workflows, and decisions, where nobody has read its topics before.
    What reaches more roots of a view than `fan_out_limit` is queued. `decided` are the decisions on dead letters that
    count, where these are not all that were folded.
    """

    connection: psycopg.Connection[Any]
    plan: Plan
    fences: Mapping[TopicPartition, int]
    build: int = LIVE
    contracts: Iterable[Contract] = BUILT_IN
    indexing: bool = False
    fan_out_limit: int = fan_out.LIMIT
    decided: Decided | None = None
    routers: Sequence[Router] = field(init=False)
    _prepared: bool = field(default=False, init=False)
    _eventful: frozenset[TopicPartition] = field(default=frozenset(), init=False)
    """Partitions of which something was held or decided in their last transaction: nothing of them is folded ahead."""

    def __post_init__(self) -> None:
        self.routers = routers(self.plan.entities.values(), self.contracts)

    @property
    def router(self) -> Router:
        """What decodes batches, and finds decisions in them."""
        return self.routers[0]

    def prepare(self) -> None:
        """Make the session's temporary tables, in one round trip: there are a hundred statements of ten views."""
        self.connection.execute("; ".join(self.plan.temporary_tables()).encode())
        self._prepared = True

    def ahead(self) -> Folding:
        """What records can be folded into before their transaction, which `apply` goes on with."""
        nothing = Known(Held([(partition, "", 0) for partition in self._eventful]), {}, {}, {}, {}, {})
        return Folding(self.routers, nothing, self.plan.counted)

    def expect(self, partitions: Iterable[TopicPartition]) -> None:
        """Something is amiss with these: fold nothing of them ahead the next time."""
        self._eventful = self._eventful.union(partitions)

    def apply(
        self, batches: Sequence[Batch], refused: Refused | None = None, ahead: Folding | None = None
    ) -> Applied:
        """Apply batches, at most one a partition, in one transaction.

        `refused` are records that Postgres would not take: they become dead letters. `ahead` has exactly what was
        folded of these batches before. Raises Fenced, PlanChanged, Unforeseen, ForeignPartition, and psycopg errors;
        nothing is done then.
        """
        if not self._prepared:
            self.prepare()
        with transaction(self.connection, pipelined=sum(map(len, batches)) <= PIPELINED) as cursor:
            return self._apply(cursor, batches, refused or {}, ahead)

    def _apply(
        self, cursor: psycopg.Cursor[Any], batches: Sequence[Batch], refused: Refused, ahead: Folding | None
    ) -> Applied:
        # A build honours a decision where it meets the record; what is held live is not its to release.
        decision = decision_among(batches, self.router) if self.build == LIVE else None
        targets = {decision.letter[0]} if decision else set()
        ranges = {**dict.fromkeys(targets, (0, 0)), **_ranges(batches)}
        locking = checkpoints.ask_lock(self.connection, list(ranges), self.build)
        asking = lookups.ask_news(self.connection, ranges, list(self.plan.entities))
        locked, news = locking(), asking()
        self._check_owner(batches, locked)
        if self.build == LIVE and news.generation != self.plan.generation:
            raise PlanChanged
        with stage("fold"):
            known = self.known(locked, batches, refused, news)
            folding = self.fold(cursor, batches, decision, known, locked, ahead)
        self.write(cursor, folding)
        advances = {batch.partition: self._advance(batch, folding.counts) for batch in batches}
        for partition in targets:
            if partition not in advances and partition in folding.counts:
                advances[partition] = Advance(locked[partition].next_offset, folding.counts[partition])
        positions = {partition: change.next_offset for partition, change in advances.items()}
        checkpoints.advance(cursor, advances, self.build, announced=self.build == LIVE)
        self.plan.scratch.empty(cursor)
        return Applied(positions, folding.counts)

    def _check_owner(self, batches: Sequence[Batch], locked: Mapping[TopicPartition, Checkpoint]) -> None:
        for batch in batches:
            row = locked.get(batch.partition)
            fence = self.fences.get(batch.partition)
            if (
                row is None
                or row.next_offset != batch.chunk.start
                or (fence is not None and row.fence != fence)
            ):
                raise Fenced(
                    f"The checkpoint of {batch.partition} is not ours any more.",
                    remedy="Another projector goes on with it; this one must let go.",
                )

    def known(
        self,
        locked: Mapping[TopicPartition, Checkpoint],
        batches: Sequence[Batch] = (),
        refused: Refused | None = None,
        news: News | None = None,
    ) -> Known:
        """What is held of partitions whose checkpoints are locked, and decided of batches of theirs.

        `news`, asked for after the lock, say whether anything is.
        """
        holding, decisions = Held(()), dict[Place, list[Decision]]()
        if news is None or news.held:
            holding = held.load(self.connection, list(locked), list(self.plan.entities))
        if news is None or news.decided or self.decided:
            decisions = self.decisions(batches)
        topic_ids = {partition.topic: row.topic_id for partition, row in locked.items()}
        return Known(holding, topic_ids, decisions, {}, {}, refused or {})

    def decisions(self, batches: Sequence[Batch]) -> dict[Place, list[Decision]]:
        """Decisions on records of these batches."""
        if self.decided is None:
            return lookups.decisions_within(self.connection, _ranges(batches), self.build)
        ranges = _ranges(batches)
        return {
            (at, offset): list(decisions)
            for (at, offset), decisions in self.decided.items()
            if at in ranges and ranges[at][0] <= offset < ranges[at][1]
        }

    @staticmethod
    def take(
        cursor: psycopg.Cursor[Any],
        folding: Folding,
        batches: Sequence[Batch],
        also: Sequence[Group] = (),
        *,
        remembered: bool = False,
    ) -> None:
        """Look up what these batches, and the events in `also`, need to know; then fold the batches.

        `remembered` is as `look_up` takes it.
        """
        rest = [batch for batch in batches if batch.folded < len(batch) or not len(batch)]
        readings = [folding.read(batch) for batch in sorted(rest, key=lambda batch: batch.partition)]
        groups = (_group(judge.router, batch, folding.known) for read in readings for judge, batch in read)
        look_up(cursor, folding, [*groups, *also], remembered=remembered)
        for read in readings:
            folding.fold(read)

    def fold(
        self,
        cursor: psycopg.Cursor[Any],
        batches: Sequence[Batch],
        decision: Decision | None,
        known: Known,
        locked: Mapping[TopicPartition, Checkpoint],
        ahead: Folding | None = None,
    ) -> Folding:
        """Fold batches, and carry a decision out."""
        folding = ahead or Folding(self.routers, known, self.plan.counted)
        folding.known = known
        eventful = {batch.partition for batch in batches if not folding.is_plain(batch.partition)}
        self._eventful = self._eventful.difference(batch.partition for batch in batches) | eventful
        if any(batch.folded for batch in batches if batch.partition in eventful):
            raise Unforeseen("Something is held or decided of what was folded ahead.")
        release = Release(folding, decision)
        release.load(self.connection, locked)
        self.take(cursor, folding, batches, release.groups())
        release.fold()
        return folding

    def write(self, cursor: psycopg.Cursor[Any], folding: Folding) -> None:
        """Write all that was folded, but for the checkpoints."""
        writes: list[_Write] = []
        written = self.write_entities(cursor, folding, writes)
        with stage("views"):
            self._refresh_views(cursor, written)
        folding.known.held.write(cursor)
        self._write_rest(cursor, folding)
        for write in writes:
            write.check(cursor)
        if self.build == LIVE and any(
            id_ in self.plan.live and self.plan.entities[id_].model.name in REMEMBERED for id_ in written
        ):
            versions.raise_generation(self.connection)  # every API process then looks at them again

    def write_entities(
        self, cursor: psycopg.Cursor[Any], folding: Folding, writes: list[_Write]
    ) -> dict[int, bool]:
        """Of the entity versions that had anything written, by id: whether rows may have gone.

        `writes` gets those that must have written all rows that were staged.
        """
        written: dict[int, bool] = {}
        for id_, rows in sorted(folding.rows.items()):
            if not rows.rows and not rows.cleared:
                continue
            version, numbers = rows.version, dict[Shape, int]()
            at_once: Sequence[Sequence[Any]] = ()
            with stage("copy"):
                if version.writes_at_once(cursor):
                    at_once = list(rows.staged(numbers))
                else:
                    version.stage(cursor, rows.staged(numbers))
            written[id_] = bool(rows.cleared) or any(shape.kind == "delete" for shape in numbers)
            with stage("entities"):
                if rows.cleared and (stranger := version.clear(cursor, rows.cleared)) is not None:
                    key, ours, theirs = stranger
                    raise foreign_partition(version, key, theirs, ours)
                expected = rows.counts()
                for shape, number in numbers.items():
                    count = version.write(self.connection, shape, number, expected[shape], at_once)
                    if shape.kind != "delete":
                        writes.append(_Write(version, expected[shape], count, at_once))
        return written

    def _refresh_views(self, cursor: psycopg.Cursor[Any], written: Mapping[int, bool]) -> None:
        queued = {view.id for view in self.plan.queued}
        views = [
            (view, view.ask_touched(self.connection, written))
            for view in sorted((*self.plan.views, *self.plan.queued), key=lambda view: view.id)
            if any(source.id in written for source in view.sources.values())
        ]
        for view, is_touched in views:
            if is_touched():
                view.lock(cursor)
                if view.id in queued:
                    view.note(cursor, written, self.fan_out_limit)
                else:
                    view.refresh(cursor, written, self.fan_out_limit)

    def _write_rest(self, cursor: psycopg.Cursor[Any], folding: Folding) -> None:
        if folding.index and (self.build == LIVE or self.indexing):
            lookups.write_event_index(cursor, folding.index)
        if folding.sequences:
            lookups.write_sequences(cursor, folding.sequences)
        if folding.recent:
            kept: dict[tuple[int, TopicPartition], int] = {}
            windows = {
                fold.version.id: fold.window
                for router in self.routers
                for routes in router.by_struct.values()
                for route in routes.values()
                for fold in route.folds
                if fold.window is not None
            }
            for (id_, partition, _), offset in folding.recent.items():
                at = (id_, partition)
                kept[at] = max(kept.get(at, 0), offset - (windows[id_] or 0))
            lookups.write_recent_ids(cursor, folding.recent, kept)
        if self.build == LIVE or self.indexing:
            for decision in folding.decided:
                lookups.write_decision(cursor, decision)

    def _advance(self, batch: Batch, counts: Mapping[TopicPartition, Counts]) -> Advance:
        timestamps = batch.chunk.timestamps
        return Advance(batch.chunk.next_offset, counts[batch.partition], max(timestamps, default=None))


def _ranges(batches: Sequence[Batch]) -> dict[TopicPartition, tuple[int, int]]:
    return {batch.partition: (batch.chunk.start, batch.chunk.next_offset) for batch in batches}


def _group(router: Router, batch: Batch, known: Known) -> Group:
    """The events of a batch, and those that edits put in place of its records."""
    chunk, keys, items = batch.chunk, list(batch.keys), list(batch.items)
    for (partition, offset), decisions in known.decisions.items():
        if partition == batch.partition and offset in chunk.offsets:
            edits = [decision.value for decision in decisions if decision.action == "edit"]
            keys += [batch.keys[chunk.offsets.index(offset)]] * len(edits)
            items += [router.intake.read(partition.topic, value) for value in edits]
    return router, batch.partition, keys, items
