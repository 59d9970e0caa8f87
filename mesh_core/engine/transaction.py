"""The projector's transaction: everything that one batch does, in this order.

1. Checkpoints FOR UPDATE in (topic, partition) order: the barrier. Offset and fence must be what we hold.
2. Versions, held keys, decisions and look-ups, read after the lock in fresh statements.
3. Fold. Entity rows: COPY to staging, one statement a patch shape.
4. View locks by version id; then affected roots, and their rows.
5. Held events, event index, sequences, decisions; checkpoints; NOTIFY; commit.

Every transaction takes its locks in this order, so none can deadlock with another.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mesh_core.engine.compiled import Key
from mesh_core.engine.errors import PlanChanged
from mesh_core.engine.folding import Folding, Known
from mesh_core.engine.intake import Batch
from mesh_core.engine.judging import Refused
from mesh_core.engine.release import Release, releases
from mesh_core.engine.routing import Router
from mesh_core.engine.rows import foreign_partition
from mesh_core.log.position import TopicPartition
from mesh_core.store import checkpoints, held, lookups, versions
from mesh_core.store.checkpoints import Advance, Checkpoint, Counts
from mesh_core.store.entity_writes import Shape
from mesh_core.store.errors import Fenced
from mesh_core.store.held import text_of_key
from mesh_core.store.versions import LIVE, Plan
from mesh_core.telemetry import stage

Group = tuple[TopicPartition, Sequence[bytes | None], Sequence[Any]]
"""Record keys and events of one partition, for which things are looked up."""


@dataclass(frozen=True)
class Applied:
    """What a transaction did: the checkpoints after it, and the outcomes by topic partition."""

    positions: Mapping[TopicPartition, int]
    counts: Mapping[TopicPartition, Counts]


@dataclass
class Applier:
    """Applies batches to the versions of a plan, on one connection.

    `fences` are those that this projector took its partitions over with. `build` tells whose checkpoints move.
    """

    connection: psycopg.Connection[Any]
    plan: Plan
    router: Router
    fences: Mapping[TopicPartition, int]
    build: int = LIVE
    _prepared: bool = field(default=False, init=False)

    def prepare(self) -> None:
        """Make the session's temporary tables."""
        for statement in self.plan.temporary_tables():
            self.connection.execute(statement)
        self._prepared = True

    def apply(self, batches: Sequence[Batch], refused: Refused | None = None) -> Applied:
        """Apply batches, at most one a partition, in one transaction.

        `refused` are records that Postgres would not take: they become dead letters. Raises Fenced,
        PlanChanged, ForeignPartition, and psycopg errors; nothing is done then.
        """
        if not self._prepared:
            self.prepare()
        with _transaction(self.connection) as cursor:
            return self._apply(cursor, batches, refused or {})

    def _apply(self, cursor: psycopg.Cursor[Any], batches: Sequence[Batch], refused: Refused) -> Applied:
        # A build honours a decision where it meets the record; what is held live is not its to release.
        release = releases(batches, self.router) if self.build == LIVE else Release(self.router)
        mine = [batch.partition for batch in batches]
        locked = checkpoints.lock(cursor, {*mine, *release.targets}, self.build)
        self._check_owner(batches, locked)
        if self.build == LIVE and versions.generation(cursor) != self.plan.generation:
            raise PlanChanged
        release.load(self.connection, locked)
        with stage("fold"):
            folding = self._fold(cursor, batches, release, locked, refused)
        written = self._write_entities(cursor, folding)
        with stage("views"):
            self._refresh_views(cursor, written)
        self._write_rest(cursor, folding)
        advances = {batch.partition: self._advance(batch, folding.counts) for batch in batches}
        for partition in release.targets:
            if partition not in advances and partition in folding.counts:
                advances[partition] = Advance(locked[partition].next_offset, folding.counts[partition])
        checkpoints.advance(cursor, advances, self.build)
        positions = {partition: change.next_offset for partition, change in advances.items()}
        if self.build == LIVE:
            self._notify(cursor, positions)
        return Applied(positions, folding.counts)

    def _check_owner(self, batches: Sequence[Batch], locked: Mapping[TopicPartition, Checkpoint]) -> None:
        for batch in batches:
            row = locked.get(batch.partition)
            fence = self.fences.get(batch.partition)
            if row is None or row.next_offset != batch.start or (fence is not None and row.fence != fence):
                raise Fenced(
                    f"The checkpoint of {batch.partition} is not ours any more.",
                    remedy="Another projector goes on with it; this one must let go.",
                )

    def _fold(
        self,
        cursor: psycopg.Cursor[Any],
        batches: Sequence[Batch],
        release: Release,
        locked: Mapping[TopicPartition, Checkpoint],
        refused: Refused,
    ) -> Folding:
        ranges = {
            batch.partition: (locked[batch.partition].topic_id, batch.start, batch.chunk.next_offset)
            for batch in batches
        }
        decisions = lookups.decisions_within(cursor, ranges)
        known = Known(
            held.load(cursor, list(locked), [version.id for version in self.plan.entities.values()]),
            {partition.topic: row.topic_id for partition, row in locked.items()},
            decisions,
            {},
            {},
            refused,
        )
        folding = Folding(self.router, known)
        edits: list[Group] = []
        for partition, offset in decisions:
            chunk = next(batch.chunk for batch in batches if batch.partition == partition)
            if offset in chunk.offsets:
                key = chunk.keys[chunk.offsets.index(offset)]
                values = [d.value for d in decisions[partition, offset] if d.action == "edit"]
                items = [self.router.intake.read(partition.topic, value) for value in values]
                edits.append((partition, [key] * len(items), items))
        met: list[Group] = [(batch.partition, batch.chunk.keys, batch.items) for batch in batches]
        self._look_up(cursor, folding, [*met, *edits, *release.items()])
        for batch in sorted(batches, key=lambda batch: batch.partition):
            folding.fold(batch)
        if release.lines:
            release.fold(folding)
        return folding

    def _look_up(
        self,
        cursor: psycopg.Cursor[Any],
        folding: Folding,
        groups: Sequence[Group],
    ) -> None:
        """Presence of rows, last sequences and recent ids, for the records that need them."""
        rows: dict[int, set[Key]] = {}
        sequenced: dict[int, set[str]] = {}
        windowed: dict[int, set[str]] = {}
        for partition, keys_, items in groups:
            by_struct = self.router.by_struct[partition.topic]
            asking = {
                kind
                for kind in set(map(type, items))
                if (route := by_struct.get(kind))
                and any(fold.needs_presence or fold.window is not None for fold in route.folds)
            }
            if not asking and not any(map(_is_sequenced, items)):
                continue
            for raw, item in zip(keys_, items, strict=True):
                kind = type(item)
                route = by_struct.get(kind)
                if route is not None and item.sequence is not None:
                    for fold in route.folds:
                        sequenced.setdefault(fold.version.id, set()).add(text_of_key(raw))
                if route is None or kind not in asking:
                    continue
                for fold in route.folds:
                    if fold.window is not None:
                        windowed.setdefault(fold.version.id, set()).add(item.id)
                    if fold.needs_presence:
                        try:
                            rows.setdefault(fold.version.id, set()).add(fold.key(item))
                        except ValueError:
                            continue  # a tombstone of no key, which folding refuses
        for version in self.plan.entities.values():
            keys = rows.get(version.id)
            if keys:
                found: dict[Key, int] = {}
                for length in {len(key) for key in keys}:
                    some = [key for key in keys if len(key) == length]
                    found.update(lookups.present_keys(cursor, version, some, version.model.key[:length]))
                folding.rows[version.id].present = found
        for id_, record_keys in sequenced.items():
            folding.known.sequences.update(lookups.last_sequences(cursor, [id_], record_keys))
        for id_, event_ids in windowed.items():
            partitions = [partition for partition, _, _ in groups]
            folding.known.recent.update(lookups.recent_ids(cursor, [id_], partitions, event_ids))

    def _write_entities(self, cursor: psycopg.Cursor[Any], folding: Folding) -> set[str]:
        """Names of the entities that had anything written."""
        written = set()
        for version in sorted(self.plan.entities.values(), key=lambda version: version.id):
            rows = folding.rows[version.id]
            if not rows.rows and not rows.cleared:
                continue
            written.add(version.model.name)
            numbers: dict[Shape, int] = {}
            with stage("copy"):
                version.copy(cursor, rows.staged(numbers))
            with stage("entities"):
                if rows.cleared and (stranger := version.clear(cursor, rows.cleared)) is not None:
                    key, ours, theirs = stranger
                    raise foreign_partition(version, key, theirs, ours)
                expected = rows.counts()
                for shape, number in numbers.items():
                    count = version.write(cursor, shape, number)
                    if shape.kind != "delete" and count != expected[shape]:
                        key, ours, theirs = version.foreign(cursor)
                        raise foreign_partition(version, key, theirs, ours)
        return written

    def _refresh_views(self, cursor: psycopg.Cursor[Any], written: Collection[str]) -> None:
        names = set(written)
        for view in sorted(self.plan.views, key=lambda view: view.id):
            if names & view.model.entities and view.is_touched(cursor, names):
                view.lock(cursor)
                view.refresh(cursor, names)

    def _write_rest(self, cursor: psycopg.Cursor[Any], folding: Folding) -> None:
        folding.known.held.write(cursor)
        if folding.index and self.build == LIVE:
            lookups.write_event_index(cursor, folding.index)
        if folding.sequences:
            lookups.write_sequences(cursor, folding.sequences)
        if folding.recent:
            kept: dict[tuple[int, TopicPartition], int] = {}
            windows = {
                fold.version.id: fold.window
                for routes in self.router.by_struct.values()
                for route in routes.values()
                for fold in route.folds
                if fold.window is not None
            }
            for (id_, partition, _), offset in folding.recent.items():
                at = (id_, partition)
                kept[at] = max(kept.get(at, 0), offset - (windows[id_] or 0))
            lookups.write_recent_ids(cursor, folding.recent, kept)
        if self.build == LIVE:
            for decision in folding.decided:
                lookups.write_decision(cursor, decision)

    def _advance(self, batch: Batch, counts: Mapping[TopicPartition, Counts]) -> Advance:
        timestamps = batch.chunk.timestamps
        return Advance(batch.chunk.next_offset, counts[batch.partition], max(timestamps, default=None))

    @staticmethod
    def _notify(cursor: psycopg.Cursor[Any], positions: Mapping[TopicPartition, int]) -> None:
        payload: dict[str, dict[str, int]] = {}
        for partition, offset in positions.items():
            payload.setdefault(partition.topic, {})[str(partition.partition)] = offset
        text = json.dumps(payload, separators=(",", ":"))
        # A listener re-reads the checkpoints anyway; too long a payload is left out.
        cursor.execute("SELECT pg_notify('mesh_positions', %s)", (text if len(text) < 7900 else "",))


@contextmanager
def _transaction(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Cursor[Any]]:
    """BEGIN, and COMMIT as a stage of its own; ROLLBACK if anything is raised."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield cursor
        except BaseException:
            if not connection.broken:
                cursor.execute("ROLLBACK")
            raise
        with stage("commit"):
            cursor.execute("COMMIT")


def _is_sequenced(item: Any) -> bool:
    return getattr(item, "sequence", None) is not None
