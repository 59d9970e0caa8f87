"""The projector: turns events into rows, until it is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg

from mesh_core.engine import watch
from mesh_core.engine.backoff import Backoff
from mesh_core.engine.errors import EngineError, PlanChanged
from mesh_core.engine.gathering import Gatherer
from mesh_core.engine.guard import topic_problem
from mesh_core.engine.intake import Batch, Intake
from mesh_core.engine.resilience import apply_resiliently, fault_of
from mesh_core.engine.routing import Router
from mesh_core.engine.transaction import Applied, Applier
from mesh_core.errors import DependencyUnavailable
from mesh_core.log.errors import LogUnavailable, OffsetOutOfRange
from mesh_core.log.interface import Chunk, Consumer, Driver
from mesh_core.log.position import Position, TopicPartition
from mesh_core.model.builtin import BUILT_IN_EVENTS
from mesh_core.settings import Settings
from mesh_core.store import checkpoints, versions
from mesh_core.store.connections import connect
from mesh_core.store.errors import Fenced, ForeignPartition, NotDeployed
from mesh_core.telemetry import get_logger, metrics, process_span, stage

CHECK_SECONDS = 5.0
log = get_logger(__name__)


class Projector:
    """Reads the partitions that the group gives it, and applies them batch by batch.

    One thread runs it; `stop` may be called from any other, or from a signal handler.
    """

    def __init__(self, settings: Settings, database_url: str, driver: Driver) -> None:
        self._settings, self._url, self._driver = settings, database_url, driver
        self._stopping = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._applier: Applier | None = None
        self._consumer: Consumer | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._fences: dict[TopicPartition, int] = {}
        self._halted: dict[str, str] = {}
        self._shown: set[str] = set()
        self._backoff = Backoff()
        self._next_check = 0.0
        self._subscribed: tuple[str, ...] = ()
        self._gatherer = Gatherer(settings.projector_batch_min, settings.projector_batch_max)

    def stop(self) -> None:
        """Finish the current batch, then leave the group."""
        self._stopping.set()

    def run(self, until: Position | None = None) -> None:
        """Project until `stop`, or until the owned partitions have reached `until`.

        Raises NotDeployed when there is nothing to keep up, and whatever is neither bad data nor a passing fault.
        """
        self._connect()
        consumer = self._driver.consumer(self._settings.group, self._settings.projector_instance_id)
        self._consumer = consumer
        try:
            while not self._stopping.is_set() and not (until and self._reached(until)):
                try:
                    self._turn(consumer)
                except psycopg.Error as error:
                    if fault_of(error) != "passing":
                        raise
                    self._recover(consumer, error)
        finally:
            consumer.close()
            if self._connection is not None:
                self._connection.close()

    def _turn(self, consumer: Consumer) -> None:
        """One batch, and now and then a look around."""
        if self._subscribed != self._plan_topics():  # at the start, and after a deploy
            self._subscribed = self._plan_topics()
            consumer.subscribe(self._subscribed, _Listener(self))
        try:
            with stage("poll"):
                chunks = self._gatherer.gather(consumer, self._settings.projector_poll_seconds)
        except OffsetOutOfRange as error:
            self._halt(error.partition.topic, str(error))
            return
        self._apply(chunks)
        self._check()

    def _recover(self, consumer: Consumer, error: psycopg.Error) -> None:
        """Postgres went away in the midst of something: go on from the checkpoints once it is back."""
        failure: psycopg.Error | None = error
        while failure is not None and not self._stopping.is_set():
            self._wait("postgres", failure)
            try:
                self._connect()
                self._reposition()
                failure = None
            except psycopg.Error as again:
                if fault_of(again) != "passing":
                    raise
                failure = again
        self._seek(
            consumer, [partition for partition in self._positions if partition.topic not in self._halted]
        )

    def _seek(self, consumer: Consumer, partitions: Collection[TopicPartition]) -> None:
        """Read these from their checkpoints, wherever the consumer has got to."""
        owned = consumer.positions().offsets
        for partition in partitions:
            if partition in owned:
                consumer.seek(partition, self._positions[partition])

    def run_until_caught_up(self) -> None:
        """Project all that is in the log now, then return; for tests, the demo and one-off runs."""
        self._connect()
        assert self._connection is not None
        partitions = list(checkpoints.read(self._connection, self._plan_topics()))
        consumer = self._driver.consumer(None)
        try:
            ends = consumer.end_offsets(partitions)
        finally:
            consumer.close()
        self.run(Position(ends))

    @property
    def halted(self) -> Mapping[str, str]:
        """Halted topics and why."""
        return dict(self._halted)

    def _reached(self, until: Position) -> bool:
        return all(
            self._positions.get(partition, -1) >= offset or partition.topic in self._halted
            for partition, offset in until.offsets.items()
        )

    # ---- the plan

    def _plan_topics(self) -> tuple[str, ...]:
        assert self._applier is not None
        return self._applier.plan.topics

    def _connect(self) -> None:
        """Open the connection and make the plan, waiting for Postgres as long as it takes."""
        while True:
            try:
                if self._connection is not None:
                    self._connection.close()
                self._connection = connect(self._url, "mesh projector")
                self._load_plan()
                self._backoff.reset()
                return
            except psycopg.Error as error:
                if fault_of(error) != "passing" or self._stopping.is_set():
                    raise
                self._wait("postgres", error)

    def _load_plan(self) -> None:
        assert self._connection is not None
        plan = versions.live_plan(self._connection)
        if not plan.entities:
            raise NotDeployed(
                "Nothing is deployed, so there is nothing to project.", remedy="Run mesh deploy first."
            )
        models = [version.model for version in plan.entities.values()]
        intake = Intake(models, [event.contract for event in BUILT_IN_EVENTS])
        self._applier = Applier(self._connection, plan, Router(plan.entities, intake), self._fences)
        self._applier.prepare()
        log.info("plan", generation=plan.generation, entities=len(plan.entities), views=len(plan.views))

    def _wait(self, cause: str, error: BaseException) -> None:
        metrics.RETRIES.labels(cause).inc()
        seconds = self._backoff.next()
        log.warning("waiting", cause=cause, error=str(error).split("\n")[0], seconds=round(seconds, 2))
        self._stopping.wait(seconds)

    # ---- batches

    def _apply(self, chunks: Sequence[Chunk]) -> None:
        """Apply what was polled. Raises psycopg errors of passing faults, of which `_recover` takes care."""
        chunks = [
            chunk
            for chunk in chunks
            if chunk.partition in self._positions and chunk.partition.topic not in self._halted
        ]
        while chunks and not self._stopping.is_set():
            assert self._applier is not None
            try:
                with stage("decode"):
                    batches = [
                        self._applier.router.intake.batch(c, self._positions[c.partition]) for c in chunks
                    ]
                with process_span(
                    batches[0].partition.topic, watch.traceparents(batches), records=_records(batches)
                ):
                    self._applied(apply_resiliently(self._applier, batches), batches)
                self._backoff.reset()
                return
            except PlanChanged:
                self._load_plan()
            except ForeignPartition as error:
                topic = error.topic
                self._reposition()
                self._halt(topic, str(error))
            except Fenced as error:
                log.warning("fenced", error=str(error))
                self._reposition()
            chunks = self._still_ours(chunks)

    def _still_ours(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Of chunks that failed, those that still continue from our checkpoints."""
        kept = []
        for chunk in chunks:
            at = self._positions.get(chunk.partition)
            if at is None or chunk.partition.topic in self._halted:
                continue
            if chunk.next_offset <= at:
                continue  # it was committed, though we did not hear so
            skipped = sum(offset < at for offset in chunk.offsets)
            if skipped:
                chunk = Batch(chunk, list(chunk.offsets), at).part(skipped, len(chunk.offsets)).chunk
            kept.append(chunk)
        return kept

    def _applied(self, done: Applied, batches: Sequence[Batch]) -> None:
        for partition, offset in done.positions.items():
            if partition in self._positions:
                self._positions[partition] = max(offset, self._positions[partition])
        watch.count(done.counts)
        metrics.BATCH_RECORDS.observe(_records(batches))

    # ---- ownership

    def take(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Own these partitions from now on; where to start each. Halts topics that are not what they were."""
        connection = self._connected()
        found = checkpoints.take_over(connection, partitions)
        facts = self._driver_facts({partition.topic for partition in partitions})
        assert self._consumer is not None
        # A topic is judged as a whole: it is halted as a whole, and other projectors have the rest of it.
        topics = {partition.topic for partition in partitions}
        known = checkpoints.read(connection, topics)
        there = [
            p for p in {*known, *partitions} if p.topic in facts and p.partition < facts[p.topic].partitions
        ]
        starts, ends = self._consumer.beginning_offsets(there), self._consumer.end_offsets(there)
        for topic in sorted(topics):
            rows = [row for partition, row in known.items() if partition.topic == topic]
            missing = [p for p in partitions if p.topic == topic and p not in found]
            problem = topic_problem(topic, facts.get(topic), rows, starts, ends)
            if missing and problem is None:
                problem = (
                    f"The topic {topic} has partitions without a checkpoint: {', '.join(map(str, missing))}."
                )
            if problem:
                self._halt(topic, problem, pause=False)
            else:
                checkpoints.resume(connection, [row.partition for row in rows])
                self._halted.pop(topic, None)
        self._gatherer.forget(partitions)
        for partition, row in found.items():
            self._positions[partition], self._fences[partition] = row.next_offset, row.fence
        self._next_check = time.monotonic() + CHECK_SECONDS  # all that a check asks has just been asked
        self._show_halts()
        metrics.REBALANCES.labels("assigned").inc()
        log.info("assigned", partitions=[str(partition) for partition in sorted(partitions)])
        return {p: self._start(p, starts, ends) for p in partitions}

    def _start(
        self,
        partition: TopicPartition,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> int:
        """The checkpoint; where a halted topic no longer has it, its nearest offset, of which nothing is read."""
        wanted = self._positions.get(partition, starts.get(partition, 0))
        return min(max(wanted, starts.get(partition, 0)), ends.get(partition, wanted))

    def release(self, partitions: Collection[TopicPartition], change: str) -> None:
        """Let go of these partitions."""
        self._gatherer.forget(partitions)
        for partition in partitions:
            self._positions.pop(partition, None)
            self._fences.pop(partition, None)
        self._show_halts()
        metrics.REBALANCES.labels(change).inc()
        log.info(change, partitions=[str(partition) for partition in sorted(partitions)])

    def _reposition(self) -> None:
        """Ask the checkpoints where we stand; let go of partitions that another projector took."""
        assert self._consumer is not None
        connection = self._connected()
        rows = checkpoints.read(connection, {partition.topic for partition in self._positions})
        lost = [p for p, fence in self._fences.items() if p not in rows or rows[p].fence != fence]
        if lost:
            self._consumer.pause(lost)
            self.release(lost, "fenced")
        for partition in self._positions:
            self._positions[partition] = rows[partition].next_offset

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connect()
        assert self._connection is not None
        return self._connection

    def _driver_facts(self, topics: Collection[str]) -> Mapping[str, Any]:
        admin = self._driver.admin()
        try:
            return admin.describe(sorted(topics))
        finally:
            admin.close()

    # ---- halts and checks

    def _halt(self, topic: str, reason: str, *, pause: bool = True) -> None:
        """Stop reading a topic and say so; everything else goes on."""
        checkpoints.halt(self._connected(), topic, reason)
        if self._halted.get(topic) != reason:
            log.error("halted", topic=topic, reason=reason)
        self._halted[topic] = reason
        self._show_halts()
        if pause and self._consumer is not None:
            self._consumer.pause([partition for partition in self._positions if partition.topic == topic])

    def _unhalt(self, topic: str) -> None:
        """Another projector found the topic in order: go on reading it, and see."""
        assert self._consumer is not None
        del self._halted[topic]
        self._show_halts()
        mine = [partition for partition in self._positions if partition.topic == topic]
        self._seek(self._consumer, mine)
        self._consumer.resume(mine)
        log.info("goes on", topic=topic)

    def _show_halts(self) -> None:
        for topic in {*self._halted, *self._shown}:
            halted = topic in self._halted
            count = sum(partition.topic == topic for partition in self._positions) if halted else 0
            metrics.HALTED.labels(topic).set(count)
        self._shown = set(self._halted)

    def _check(self) -> None:
        """Every few seconds: are the topics what they were, how far behind are we, who else may know."""
        now = time.monotonic()
        if (
            now < self._next_check
            or self._consumer is None
            or self._applier is None
            or self._stopping.is_set()
        ):
            return
        self._next_check = now + CHECK_SECONDS
        with self._connected().cursor() as cursor:
            if versions.generation(cursor) != self._applier.plan.generation:
                self._load_plan()  # where nothing arrives, no batch would tell
        if not self._positions:
            return
        mine = list(self._positions)
        for topic in self._halted:  # a rebalance may have forgotten what was paused
            self._consumer.pause([partition for partition in mine if partition.topic == topic])
        try:
            facts = self._driver_facts({partition.topic for partition in mine})
            starts, ends = self._consumer.beginning_offsets(mine), self._consumer.end_offsets(mine)
        except LogUnavailable as error:
            log.warning("cannot check the topics", error=str(error).split("\n")[0])
            return
        except DependencyUnavailable as error:
            raise EngineError(str(error)) from error
        rows = checkpoints.read(self._connected(), {partition.topic for partition in mine})
        # Another projector may have found the fault, or that it is mended.
        reasons = {
            row.partition.topic: row.halted_reason for row in rows.values() if row.halted_reason is not None
        }
        for topic in [topic for topic in self._halted if topic not in reasons]:
            self._unhalt(topic)
        for topic, reason in reasons.items():
            if topic not in self._halted:
                self._halt(topic, reason)
        for topic in {partition.topic for partition in mine} - set(self._halted):
            owned = [
                row
                for partition, row in rows.items()
                if partition.topic == topic and partition in self._positions
            ]
            if problem := topic_problem(topic, facts.get(topic), owned, starts, ends):
                self._halt(topic, problem)
        limit = self._settings.dead_letter_limit
        for topic, reason in watch.too_many_dead_letters(self._connected(), self._positions, limit).items():
            self._halt(topic, reason)
        watch.measure_lag(self._connected(), self._positions, ends)
        self._consumer.commit_hint(Position(dict(self._positions)))


def _records(batches: Sequence[Batch]) -> int:
    return sum(len(batch.items) for batch in batches)


class _Listener:
    """Tells the projector which partitions the group gave it."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector

    def assigned(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See AssignmentListener."""
        return self._projector.take(partitions) if partitions else {}

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """See AssignmentListener."""
        self._projector.release(partitions, "revoked")

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See AssignmentListener."""
        self._projector.release(partitions, "lost")
