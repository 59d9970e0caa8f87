"""The projector: turns events into rows, until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import psycopg

from mesh_core.engine import watch
from mesh_core.engine.assignment import Assignment
from mesh_core.engine.draining import CHUNK, Draining
from mesh_core.engine.errors import PlanChanged
from mesh_core.engine.gathering import Gatherer
from mesh_core.engine.halts import Halts
from mesh_core.engine.inspection import Inspection
from mesh_core.engine.resilience import apply_resiliently, fault_of
from mesh_core.engine.session import Session
from mesh_core.engine.standing import Standing, seek
from mesh_core.log.errors import OffsetOutOfRange
from mesh_core.log.interface import Chunk, Consumer, Driver
from mesh_core.log.position import Position
from mesh_core.settings import Settings
from mesh_core.store import checkpoints
from mesh_core.store.errors import Fenced, ForeignPartition
from mesh_core.telemetry import get_logger, metrics, process_span, stage

BUSY_POLL_SECONDS = 0.01
"""Longest that a poll waits for records while there is something to drain."""
log = get_logger(__name__)


class Projector:
    """Reads the partitions that the group gives it, and applies them batch by batch.

    One thread runs it; `stop` may be called from any other, or from a signal handler.
    """

    def __init__(self, settings: Settings, database_url: str, driver: Driver) -> None:
        self._settings, self._driver = settings, driver
        self._stopping = threading.Event()
        self._standing = Standing()
        self._session = Session(database_url, self._standing.fences, self._stopping, settings.fan_out_limit)
        self._draining = Draining(self._session, min(CHUNK, settings.fan_out_limit))

    def stop(self) -> None:
        """Finish the current batch, then leave the group."""
        self._stopping.set()

    def run(self, until: Position | None = None) -> None:
        """Project until `stop`, or until the owned partitions have reached `until` and nothing waits in the fan-out queue.

        Raises NotDeployed when there is nothing to keep up, and whatever is neither bad data nor a passing fault.
        """
        try:
            self._session.open()
            consumer = self._driver.consumer(self._settings.group, self._settings.projector_instance_id)
            with consumer:
                turns = _Turns(
                    self._settings,
                    self._driver,
                    consumer,
                    self._session,
                    self._standing,
                    self._draining,
                    self._stopping,
                )
                while not self._stopping.is_set() and not (until and self._standing.reached(until)):
                    turns.turn()
            if not self._stopping.is_set():
                self._draining.finish()
        finally:
            self._session.close()

    def run_until_caught_up(self) -> None:
        """Project all that is in the log now, then return; for tests, the demo and one-off runs."""
        self._session.open()
        topics = self._session.applier.plan.topics
        partitions = list(checkpoints.read(self._session.connected(), topics))
        with self._driver.consumer(None) as consumer:
            ends = consumer.end_offsets(partitions)
        self.run(Position(ends))

    @property
    def halted(self) -> Mapping[str, str]:
        """Halted topics and why."""
        return dict(self._standing.halted)


class _Turns:
    """One membership of the group, turn by turn: each polls, applies what came, and now and then looks around."""

    def __init__(
        self,
        settings: Settings,
        driver: Driver,
        consumer: Consumer,
        session: Session,
        standing: Standing,
        draining: Draining,
        stopping: threading.Event,
    ) -> None:
        self._poll_seconds, self._draining = settings.projector_poll_seconds, draining
        self._consumer, self._session, self._standing, self._stopping = consumer, session, standing, stopping
        self._subscribed: tuple[str, ...] = ()
        self._gatherer = Gatherer(settings.projector_batch_min, settings.projector_batch_max)
        self._halts = Halts(consumer, session, standing)
        self._inspection = Inspection(
            driver, consumer, session, standing, self._halts, settings.dead_letter_limit
        )
        self._assignment = Assignment(
            consumer, session, standing, self._halts, self._inspection, self._gatherer
        )

    def turn(self) -> None:
        """One batch; where Postgres went away, go on once it is back. Raises what does not pass."""
        try:
            self._subscribe()
            chunks = self._gather()
            self._apply(chunks)
            if not self._stopping.is_set():
                self._draining.turn(idle=not chunks)
                self._inspection.when_due()
        except psycopg.Error as error:
            if fault_of(error) != "passing":
                raise
            self._recover(error)

    def _subscribe(self) -> None:
        topics = self._session.applier.plan.topics
        if self._subscribed != topics:  # at the start, and after a deploy
            self._subscribed = topics
            self._consumer.subscribe(topics, self._assignment)

    def _gather(self) -> list[Chunk]:
        try:
            with stage("poll"):
                seconds = (
                    min(BUSY_POLL_SECONDS, self._poll_seconds) if self._draining.busy else self._poll_seconds
                )
                return self._gatherer.gather(self._consumer, seconds)
        except OffsetOutOfRange as error:
            self._halts.halt(error.partition.topic, str(error))
            return []

    def _apply(self, chunks: Sequence[Chunk]) -> None:
        """Apply what was polled. Raises psycopg errors, of which those that pass are recovered from."""
        readable = self._standing.readable()
        chunks = [chunk for chunk in chunks if chunk.partition in readable]
        while chunks and not self._stopping.is_set():
            try:
                self._apply_once(chunks)
                return
            except PlanChanged:
                self._session.renew_plan()
            except ForeignPartition as error:
                self._assignment.reposition()
                self._halts.halt(error.topic, str(error))
            except Fenced as error:
                log.warning("fenced", error=str(error))
                self._assignment.reposition()
            chunks = self._standing.still_ours(chunks)

    def _apply_once(self, chunks: Sequence[Chunk]) -> None:
        applier, positions = self._session.applier, self._standing.positions
        with stage("decode"):
            batches = [applier.router.intake.batch(chunk, positions[chunk.partition]) for chunk in chunks]
        records = sum(len(batch.items) for batch in batches)
        with process_span(batches[0].partition.topic, watch.traceparents(batches), records=records):
            done = apply_resiliently(applier, batches)
            self._standing.advance(done.positions)
            watch.count(done.counts)
            metrics.BATCH_RECORDS.observe(records)
        self._session.worked()

    def _recover(self, error: psycopg.Error) -> None:
        """Postgres went away in the midst of something: go on from the checkpoints once it is back."""
        failure: psycopg.Error | None = error
        while failure is not None and not self._stopping.is_set():
            self._session.wait(failure)
            try:
                self._session.open()
                self._assignment.reposition()
                failure = None
            except psycopg.Error as again:
                if fault_of(again) != "passing":
                    raise
                failure = again
        seek(self._consumer, self._standing.readable())
