"""The projector: turns events into rows, until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import psycopg

from mesh_core.engine.assignment import Assignment
from mesh_core.engine.draining import CHUNK, Draining
from mesh_core.engine.errors import PlanChanged, Unforeseen
from mesh_core.engine.gathering import Gatherer
from mesh_core.engine.halts import Halts
from mesh_core.engine.inspection import Inspection
from mesh_core.engine.intake import Batch, Intake
from mesh_core.engine.session import Session
from mesh_core.engine.standing import Standing, seek
from mesh_core.engine.surveying import Surveyor
from mesh_core.log.errors import OffsetOutOfRange
from mesh_core.log.interface import Consumer, Driver
from mesh_core.log.position import Position
from mesh_core.settings import Settings
from mesh_core.store import checkpoints
from mesh_core.store.errors import Fenced, ForeignPartition
from mesh_core.store.faults import fault_of
from mesh_core.telemetry import get_logger

SHORT_SECONDS = 0.02
"""A batch that is written sooner is waited for: a client that polls meanwhile takes the processor from it."""
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
        self._run(lambda: until)

    def run_until_caught_up(self) -> None:
        """Project all that is in the log now, then return; for tests, the demo and one-off runs."""
        self._run(self._ends)

    def _ends(self) -> Position:
        """Where the log ends now, of what is kept up."""
        topics = self._session.applier.plan.topics
        partitions = list(checkpoints.read(self._session.connected(), topics))
        with self._driver.consumer(None) as consumer:
            return Position(consumer.end_offsets(partitions))

    def _run(self, target: Callable[[], Position | None]) -> None:
        try:
            self._session.open()
            until = target()
            consumer = self._driver.consumer(self._settings.group, self._settings.projector_instance_id)
            with consumer, Surveyor(self._driver) as surveyor:
                turns = _Turns(
                    self._settings,
                    self._driver,
                    consumer,
                    surveyor,
                    self._session,
                    self._standing,
                    self._draining,
                    self._stopping,
                )
                while not self._stopping.is_set() and not (until and self._standing.reached(until)):
                    turns.turn()
                turns.end()
            if not self._stopping.is_set():
                self._draining.finish()
        finally:
            self._session.close()

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
        surveyor: Surveyor,
        session: Session,
        standing: Standing,
        draining: Draining,
        stopping: threading.Event,
    ) -> None:
        self._poll_seconds, self._draining = settings.projector_poll_seconds, draining
        self._consumer, self._session, self._standing, self._stopping = consumer, session, standing, stopping
        self._subscribed: tuple[str, ...] = ()
        self._intake: Intake | None = None
        self._idle = True
        self._gatherer = Gatherer(settings.projector_batch_min, settings.projector_batch_max)
        self._halts = Halts(consumer, session, standing)
        self._inspection = Inspection(
            driver, consumer, surveyor, session, standing, self._halts, settings.dead_letter_limit
        )
        self._assignment = Assignment(
            consumer, session, standing, self._halts, self._inspection, self._gatherer
        )

    def turn(self) -> None:
        """Read on while a batch is written, then begin the next; where Postgres went away, go on once it is back.

        Raises what does not pass.
        """
        try:
            self._subscribe()
            self._session.settle(SHORT_SECONDS)
            lagging = self._session.is_writing()
            if not lagging and not self._look_around():
                return
            batches = self._gather()
            self._idle = not batches
            if lagging and not self._look_around():
                return
            self._begin(batches)
        except psycopg.Error as error:
            if fault_of(error) != "passing":
                raise
            self._recover(error)

    def end(self) -> None:
        """Wait for what is being written. Raises what does not pass."""
        try:
            self._finish()
        except psycopg.Error as error:
            if fault_of(error) != "passing":
                raise

    def _subscribe(self) -> None:
        topics = self._session.applier.plan.topics
        if self._subscribed != topics:  # at the start, and after a deploy
            self._subscribed = topics
            self._consumer.subscribe(topics, self._assignment)

    def _look_around(self) -> bool:
        """Once what is being written is, drain and inspect if it is time to; False if that was not written."""
        if not self._finish():
            return False
        if self._draining.is_due(idle=self._idle):
            self._draining.turn(idle=self._idle)
        if self._inspection.is_due():
            self._inspection.look()
        return not self._stopping.is_set()

    def _gather(self) -> list[Batch]:
        applier = self._session.applier
        self._intake = applier.router.intake
        seconds = min(BUSY_POLL_SECONDS, self._poll_seconds) if self._draining.busy else self._poll_seconds
        try:
            return self._gatherer.gather(
                self._consumer, seconds, self._intake, applier.ahead(), self._session.is_writing
            )
        except OffsetOutOfRange as error:
            self._halts.halt(error.partition.topic, str(error))
            return []

    def _begin(self, batches: Sequence[Batch]) -> None:
        readable, intake = self._standing.readable(), self._session.applier.router.intake
        mine = [batch for batch in batches if batch.partition in readable]
        ahead = self._gatherer.ahead if len(mine) == len(batches) else None
        if intake is not self._intake or (ahead is None and any(batch.folded for batch in mine)):
            # The connection was lost and opened again while they were read, or something was folded that is not ours.
            if self._gatherer.odd is not None:
                self._session.applier.expect([self._gatherer.odd])
            seek(self._consumer, readable)
        elif mine:
            self._session.begin(mine, ahead)

    def _finish(self) -> bool:
        """Wait for what is being written, if anything; False where it failed.

        Then it is read again, and with it all that was read after it. Raises psycopg errors.
        """
        foreign: ForeignPartition | None = None
        try:
            done = self._session.finish()
        except PlanChanged:
            self._session.renew_plan()
        except Fenced as error:
            log.warning("fenced", error=str(error))
        except Unforeseen as error:
            log.debug("reads again", reason=str(error))
        except ForeignPartition as error:
            foreign = error
        else:
            if done is not None:
                self._standing.advance(done.positions)
                self._session.worked()
            return True
        self._assignment.reposition()
        if foreign is not None:
            self._halts.halt(foreign.topic, str(foreign))
        seek(self._consumer, self._standing.readable())
        return False

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
