"""Builds the new entity versions of a deploy from the log: each topic is read once, for all that it feeds.

History is read by several processes, partition by partition, and copied where that can be; then, in one process, what
came meanwhile, batch by batch. A topic that nobody has read before is read for the lookup of workflows too, so
its live checkpoints can begin where the build ends.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess

import psycopg

from mesh_core.engine.bulk import fill, finish
from mesh_core.engine.collecting import rarely_collected
from mesh_core.engine.errors import DeployRefused, EngineError
from mesh_core.engine.reading import Reader, is_behind
from mesh_core.engine.resilience import apply_resiliently
from mesh_core.engine.transaction import Applier
from mesh_core.log.interface import Driver
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.entity import EntityModel
from mesh_core.model.event import Contract
from mesh_core.store import checkpoints, lookups, versions
from mesh_core.store.checkpoints import Advance, Counts
from mesh_core.store.connections import connect, transaction
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.errors import ForeignPartition
from mesh_core.store.faults import fault_of
from mesh_core.store.heaps import Heap
from mesh_core.store.lookups import Decided
from mesh_core.store.tables import ENTRY
from mesh_core.store.versions import VersionRow

WORTH_A_PROCESS = 100_000
"""Records for each further process: starting one takes about as long as reading so many."""


_CONTEXT = multiprocessing.get_context("forkserver")


def make_ready() -> None:
    """Begin to import what further processes of a build need, beside what is done until history is read.

    They are forked from a process that has imported it and does nothing else: Kafka clients do not survive a fork, and
    importing takes as long as reading a hundred thousand records.
    """
    _CONTEXT.set_forkserver_preload([__name__])
    forkserver.ensure_running()


class CannotBeCopied(EngineError):
    """The history holds what Postgres refuses, so it has to be applied batch by batch."""


@dataclass(frozen=True)
class Build:
    """The entity versions `rows` that are built together. `contracts` are of all events of the topics they read.

    `unread` are topics that nobody has read before; `kept_up` are versions that projectors write, of which the entries
    of workflows, and the views that read these, are written from those topics. `copied` are the ids of versions whose
    tables have no key yet; `window` is beyond the numbers of what was copied to them before the build was interrupted.
    `decided` are decisions on dead letters, where others count than those that were folded. Postgres knows the build's
    connections as `name`.
    """

    database_url: str
    driver: Driver
    contracts: Sequence[Contract]
    rows: Sequence[VersionRow]
    unread: frozenset[str]
    kept_up: Sequence[VersionRow]
    copied: frozenset[int]
    processes: int
    window: int = 0
    decided: Decided | None = None
    name: str = "mesh build"

    @property
    def id(self) -> int:
        """The build of its checkpoints."""
        return min(row.id for row in self.rows)

    @cached_property
    def heaps(self) -> Mapping[int, Heap]:
        """The tables that are copied to, by version id."""
        return {
            row.id: Heap(EntityVersion(row.id, EntityModel.from_json(row.declaration), row.relation))
            for row in self.rows
            if row.id in self.copied
        }

    def read_history(self, wanted: Mapping[TopicPartition, int]) -> None:
        """Bring empty versions to `wanted`, with all processes. Raises DeployRefused, and psycopg errors.

        What the mesh itself published comes first, for it has the decisions on the records of all others.
        """
        for own in (True, False):
            some = {
                partition: end for partition, end in wanted.items() if (partition.topic == MESH_TOPIC) == own
            }
            if some:
                self._read(some)
        with connect(self.database_url, self.name) as connection:
            finish(connection, self.heaps.values(), [row.id for row in self.rows])

    def _read(self, wanted: Mapping[TopicPartition, int]) -> None:
        total = sum(wanted.values())
        processes = max(1, min(self.processes, len(wanted), total // WORTH_A_PROCESS))
        try:
            if processes == 1:
                work(self, wanted)
            else:
                self._work_together(wanted, processes)
        except (psycopg.Error, UnicodeEncodeError) as error:
            if fault_of(error) != "data" or not self.copied:
                raise
            raise CannotBeCopied from error

    def _work_together(self, wanted: Mapping[TopicPartition, int], processes: int) -> None:
        # This process works, too.
        mine = set(multiprocessing.active_children())
        try:
            with ProcessPoolExecutor(processes - 1, _CONTEXT) as pool:
                others = [pool.submit(work, self, wanted) for _ in range(processes - 1)]
                try:
                    work(self, wanted)
                except BaseException:  # the pool would wait until the others have read all the rest
                    for process in set(multiprocessing.active_children()) - mine:
                        process.terminate()
                    raise
                for other in others:
                    other.result()
        except BrokenProcessPool as error:
            raise EngineError(
                "A process of the build was killed.",
                remedy="See whether memory is short (MESH_BUILD_PROCESSES=1 takes less), then deploy again; what serves "
                "is untouched.",
            ) from error

    def catch_up(self, wanted: Mapping[TopicPartition, int]) -> bool:
        """Apply records batch by batch until the checkpoints are at exactly `wanted`; whether there were any."""
        any_behind = False
        with connect(self.database_url, "mesh build") as connection:
            topics = sorted({partition.topic for partition in wanted})
            found = checkpoints.read(connection, topics, self.id)
            for topic in topics:
                behind = {
                    partition: found[partition].next_offset
                    for partition, offset in wanted.items()
                    if partition.topic == topic and found[partition].next_offset < offset
                }
                if behind:
                    any_behind = True
                    applier = self._applier(connection, topic)
                    with self.driver.consumer(None) as consumer:
                        reader = Reader(consumer, applier.router.intake)
                        reader.assign(behind)
                        self._consume(applier, reader, behind, wanted)
        return any_behind

    def settle(self) -> None:
        """Carry out decisions on dead letters that were made after the build had met their records.

        Those that it knew then were tried; once more changes nothing.
        """
        with connect(self.database_url, "mesh build") as connection:
            for decision in lookups.decisions_on_held(connection, [row.id for row in self.rows]):
                partition, _ = decision.letter
                applier = self._applier(connection, partition.topic)
                applier.prepare()
                with transaction(connection) as cursor:
                    locked = checkpoints.lock(connection, {partition}, self.id)
                    known = applier.known(locked)
                    folding = applier.fold(cursor, [], decision, known, locked)
                    applier.write(cursor, folding)
                    counts = folding.counts.get(partition, Counts())
                    advance = Advance(locked[partition].next_offset, counts)
                    checkpoints.advance(cursor, {partition: advance}, self.id)
                    applier.plan.scratch.empty(cursor)

    def _consume(
        self,
        applier: Applier,
        reader: Reader,
        begin: Mapping[TopicPartition, int],
        wanted: Mapping[TopicPartition, int],
    ) -> None:
        standing = dict(begin)
        while is_behind(standing, wanted):
            standing.update(apply_resiliently(applier, reader.batches(standing, wanted)).positions)

    def read_history_of(
        self,
        connection: psycopg.Connection,
        groups: Iterable[Sequence[TopicPartition]],
        wanted: Mapping[TopicPartition, int],
    ) -> None:
        """Bring groups of partitions, each of one topic, from their beginnings to `wanted`.

        Raises ForeignPartition, DeployRefused, and psycopg errors.
        """
        appliers: dict[str, Applier] = {}
        with self.driver.consumer(None) as consumer:
            for group in groups:
                topic = group[0].topic
                begin = {
                    at: row.next_offset
                    for at, row in checkpoints.read(connection, [topic], self.id).items()
                    if at in group
                }
                if (applier := appliers.get(topic)) is None:
                    applier = appliers[topic] = self._applier(connection, topic)
                    applier.prepare()
                reader = Reader(consumer, applier.router.intake)
                reader.assign(begin)
                heaps = {id_: heap for id_, heap in self.heaps.items() if id_ in applier.plan.entities}
                if heaps:
                    fill(applier, heaps, reader, begin, wanted, self.window)
                else:
                    self._consume(applier, reader, begin, wanted)

    def _applier(self, connection: psycopg.Connection, topic: str) -> Applier:
        """What applies the records of a topic to all that it feeds."""
        mine = [row for row in self.rows if topic in row.topics]
        also: list[VersionRow] = []
        if topic in self.unread:
            entries = {row.id for row in self.kept_up if row.name == ENTRY}
            views = [row for row in self.kept_up if row.kind == "view" and row.reads.get(ENTRY) in entries]
            read = entries | {id_ for row in views for id_ in row.reads.values()}
            also = [*(row for row in self.kept_up if row.id in read), *views]
        plan = replace(versions.plan_of(0, [*mine, *also]), counted=frozenset(row.id for row in mine))
        return Applier(
            connection, plan, {}, self.id, self.contracts, topic in self.unread, decided=self.decided
        )


def work(build: Build, wanted: Mapping[TopicPartition, int]) -> None:
    """Take some partitions after others that nobody has taken, and read their history.

    Raises DeployRefused where a key came from two partitions.
    """
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with rarely_collected(), connect(build.database_url, build.name) as connection:
        try:
            build.read_history_of(
                connection, claims(connection, build.id, wanted, 2 * build.processes), wanted
            )
        except ForeignPartition as error:
            raise DeployRefused(error.args[0], remedy=error.remedy) from error


def claims(
    connection: psycopg.Connection, build: int, wanted: Mapping[TopicPartition, int], shares: int
) -> Iterator[list[TopicPartition]]:
    """Partitions of one topic that no other process has taken; they are taken by asking for them.

    A topic is dealt out in so many shares: several partitions at once keep Kafka busy while one's records are folded.
    """
    topics: dict[str, list[TopicPartition]] = {}
    for partition in sorted(wanted, key=lambda partition: (-wanted[partition], partition)):
        topics.setdefault(partition.topic, []).append(partition)
    for topic, partitions in topics.items():
        for share in filter(None, (partitions[n::shares] for n in range(shares))):
            taken = connection.execute(
                'UPDATE mesh.checkpoints SET fence = 1 WHERE build = %s AND topic = %s AND "partition" = ANY(%s) '
                'AND fence = 0 RETURNING "partition"',
                (build, topic, [at.partition for at in share]),
            ).fetchall()
            if taken:
                yield [TopicPartition(topic, number) for (number,) in taken]


def _end_with(parent: BaseProcess) -> None:
    """Whoever deploys may be killed; then nobody waits for this process."""
    parent.join()
    os._exit(1)
