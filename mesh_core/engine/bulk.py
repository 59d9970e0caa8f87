"""Fills entity tables that have no key yet with the history of partitions of one topic, by COPY alone.

A window is as much of the log as makes WINDOW_ROWS rows of whatever table: it is folded in memory, copied, and committed
with its checkpoints. Where all of the partitions fits one window, its rows are final. Otherwise windows are copied beside
the table, and of each record key the rows of its last window are kept in the end. That needs nothing of the rows
before, so it is for entities whose events each say all of a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import psycopg

from mesh_core.engine.compiled import Key, compile_fold
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.folding import Folding, Known
from mesh_core.engine.reading import Reader, is_behind
from mesh_core.engine.routing import Router
from mesh_core.engine.rows import EntityRows, foreign_partition
from mesh_core.engine.transaction import Applier
from mesh_core.engine.verdicts import Verdict
from mesh_core.log.position import TopicPartition
from mesh_core.model.entity import EntityModel
from mesh_core.store import checkpoints
from mesh_core.store.checkpoints import Advance
from mesh_core.store.connections import transaction
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.heaps import Asked, Heap, answer

WINDOW_ROWS = 100_000


class _HeapRows(EntityRows):
    """Rows of a table that cannot be asked what it has.

    In the first window of its partitions nothing was there before. Later, whatever is deleted may have been there: `unsure` has
    the key then, by version id.
    """

    blind = True

    def __init__(self, version: EntityVersion, *, first: bool, unsure: dict[int, Key]) -> None:
        super().__init__(version)
        self._first, self._unsure = first, unsure
        self.asked: list[Asked] = []

    def _was_there(self, key: Key, partition: int) -> bool:
        if not self._first:
            self._unsure[self.version.id] = key
        return not self._first


class _HeapFolding(Folding):
    """Folds one window. A record that did nothing but delete what may not have been there is to be asked about."""

    def __init__(
        self,
        routers: Sequence[Router],
        known: Known,
        counted: Collection[int],
        heaps: Iterable[Heap],
        *,
        first: bool,
    ) -> None:
        super().__init__(routers, known, counted)
        self._unsure: dict[int, Key] = {}
        self.heaped = {
            heap.version.id: _HeapRows(heap.version, first=first, unsure=self._unsure) for heap in heaps
        }
        self.rows.update(self.heaped)

    def settle(self, verdict: Verdict) -> str:
        outcome = super().settle(verdict)
        if self._unsure:
            sure = {came_to for id_, came_to in verdict.outcomes.items() if id_ not in self._unsure}
            if "applied" not in sure:
                at, offset = verdict.record.partition, verdict.record.offset
                for id_, key in self._unsure.items():
                    asked = Asked(key, at.partition, offset, outcome == "applied")
                    self.heaped[id_].asked.append(asked)
            self._unsure.clear()
        return outcome


def can_be_copied(model: EntityModel) -> bool:
    """Whether each event says all of a row, so that history can be copied without looking at what is there."""
    version = EntityVersion(0, model, model.table)
    return all(compile_fold(version, fold).whole for fold in model.folds)


def fill(
    applier: Applier,
    heaps: Mapping[int, Heap],
    reader: Reader,
    begin: Mapping[TopicPartition, int],
    wanted: Mapping[TopicPartition, int],
    window: int = 0,
) -> None:
    """Apply the history of partitions from `begin`, their first records, up to exactly `wanted`.

    Where windows of them were copied before, `window` is more than the numbers of these, and `begin` where they end.

    Raises psycopg errors, of which those of bad data mean that it has to be done batch by batch, and ForeignPartition.
    """
    standing = dict(begin)
    while is_behind(standing, wanted):
        with transaction(applier.connection) as cursor:
            locked = checkpoints.lock(applier.connection, standing, applier.build)
            known = applier.known(locked)
            folding = _HeapFolding(
                applier.routers, known, applier.plan.counted, heaps.values(), first=window == 0
            )
            newest: dict[TopicPartition, int] = {}
            while is_behind(standing, wanted) and _size(folding) < WINDOW_ROWS:
                batches = reader.batches(standing, wanted)
                known.decisions.update(applier.decisions(batches))
                applier.take(cursor, folding, batches)
                for batch in batches:
                    at = batch.partition
                    standing[at] = batch.chunk.next_offset
                    newest[at] = max([*batch.chunk.timestamps, newest.get(at, 0)])
            number = window if window or is_behind(standing, wanted) else None
            for id_, heap in heaps.items():
                del folding.rows[id_]
                heap.copy(cursor, folding.heaped[id_], number)
            applier.write(cursor, folding)
            advances = {
                at: Advance(standing[at], counts, newest[at] or None) for at, counts in folding.counts.items()
            }
            checkpoints.advance(cursor, advances, applier.build)
            applier.plan.scratch.empty(cursor)
        window += 1


def _size(folding: Folding) -> int:
    rows = sum(len(rows.rows) + len(rows.cleared) for rows in folding.rows.values())
    return (
        rows + len(folding.index) + len(folding.recent) + len(folding.sequences) + len(folding.known.held.new)
    )


def finish(connection: psycopg.Connection[Any], heaps: Collection[Heap], ids: Collection[int]) -> None:
    """Make tables of the heaps: merge windows, index by key, gather statistics. `ids` are all versions of the build.

    Those that it was interrupted after are left as they are. Raises DeployRefused where a key came from two partitions.
    """
    unfinished = [heap for heap in heaps if heap.is_open(connection)]
    if len(unfinished) == len(heaps):
        answer(connection, heaps, ids)
    for heap in unfinished:
        with connection.transaction():
            if (twice := heap.finish(connection)) is not None:
                key, partitions = twice
                error = foreign_partition(heap.version, key, *partitions)
                raise DeployRefused(error.args[0], remedy=error.remedy)
