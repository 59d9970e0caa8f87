"""Whether what a projector reads is in order: asked of Kafka and Postgres at each assignment, then every few seconds."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from mesh_core.engine import watch
from mesh_core.engine.errors import EngineError
from mesh_core.engine.guard import topic_problem
from mesh_core.engine.halts import Halts
from mesh_core.engine.session import Session
from mesh_core.engine.standing import Standing
from mesh_core.engine.surveying import Extent, Survey, Surveyor
from mesh_core.errors import DependencyUnavailable
from mesh_core.log.errors import LogUnavailable
from mesh_core.log.interface import Consumer, Driver, TopicFacts
from mesh_core.log.position import Position, TopicPartition
from mesh_core.store import checkpoints
from mesh_core.store.checkpoints import Checkpoint
from mesh_core.telemetry import get_logger

CHECK_SECONDS = 2.0
"""About how old rows seem to be while nothing happens, and how long a fault of a topic goes unnoticed."""
log = get_logger(__name__)


class Inspection:
    """Halts topics that are not what they were, ends halts that others ended, and measures the lag."""

    def __init__(
        self,
        driver: Driver,
        consumer: Consumer,
        surveyor: Surveyor,
        session: Session,
        standing: Standing,
        halts: Halts,
        dead_letter_limit: int,
    ) -> None:
        self._driver, self._consumer, self._surveyor = driver, consumer, surveyor
        self._session = session
        self._standing, self._halts = standing, halts
        self._dead_letter_limit = dead_letter_limit
        self._next = self._asked = 0.0
        self._before: Mapping[TopicPartition, Checkpoint] = {}

    def of_assigned(
        self, partitions: Collection[TopicPartition], found: Mapping[TopicPartition, Checkpoint]
    ) -> Extent:
        """Halt or resume the topics of partitions that are being assigned; `found` are their checkpoints.

        A topic is judged as a whole: it is halted as a whole, and other projectors have the rest of it.
        """
        topics = {partition.topic for partition in partitions}
        facts = self._facts(topics)
        known = checkpoints.read(self._session.connected(), topics)
        there = [
            p for p in {*known, *partitions} if p.topic in facts and p.partition < facts[p.topic].partitions
        ]
        extent = Extent.of(there, self._consumer)
        for topic in sorted(topics):
            rows = [row for partition, row in known.items() if partition.topic == topic]
            missing = [p for p in partitions if p.topic == topic and p not in found]
            problem = topic_problem(topic, facts.get(topic), rows, extent.starts, extent.ends)
            if missing and problem is None:
                problem = (
                    f"The topic {topic} has partitions without a checkpoint: {', '.join(map(str, missing))}."
                )
            if problem:
                self._halts.halt(topic, problem, pause=False)
            else:
                self._halts.lift(topic, [row.partition for row in rows])
        self._next = time.monotonic() + CHECK_SECONDS  # all that `look` asks has just been asked
        return extent

    def is_due(self) -> bool:
        """Whether there is something to look at: every few seconds, and again once Kafka has answered."""
        if self._surveyor.is_asking:
            return self._surveyor.has_answer
        return time.monotonic() >= self._next

    def look(self) -> None:
        """Are the topics what they were, how far behind are we, who else may know.

        Raises EngineError where Kafka will not tell for other reasons than being away, and psycopg errors.
        """
        if self._surveyor.has_answer:
            self._heed()
            return
        self._next = time.monotonic() + CHECK_SECONDS
        self._session.renew_plan_if_changed()  # where nothing arrives, no batch would tell
        mine = list(self._standing.positions)
        if not mine:
            return
        self._halts.pause_again()
        topics = {partition.topic for partition in mine}
        # Read before Kafka is asked: a log cannot end before a checkpoint that is older than the answer.
        self._before = checkpoints.read(self._session.connected(), topics)
        self._hear_of_halts(self._before)
        self._asked = time.monotonic()
        self._surveyor.ask(topics, mine)

    def _heed(self) -> None:
        """Judge by what Kafka has answered."""
        try:
            survey = self._surveyor.answer()
            self._judge(survey)
        except LogUnavailable as error:
            log.warning("cannot check the topics", error=str(error).split("\n")[0])
            return
        except DependencyUnavailable as error:
            raise EngineError(str(error)) from error
        positions, ends = self._standing.positions, survey.extent.ends
        current = [
            at for at, offset in self._standing.readable().items() if offset >= ends.get(at, offset + 1)
        ]
        if current:
            checkpoints.confirm_current(self._session.connected(), current, time.monotonic() - self._asked)
        watch.measure_lag(self._session.connected(), positions, ends)
        self._consumer.commit_hint(Position(dict(positions)))

    def _hear_of_halts(self, rows: Mapping[TopicPartition, Checkpoint]) -> None:
        """Another projector may have found a fault, or that it is mended."""
        reasons = {
            row.partition.topic: row.halted_reason for row in rows.values() if row.halted_reason is not None
        }
        halted = self._standing.halted
        for topic in [topic for topic in halted if topic not in reasons]:
            self._halts.go_on(topic)
        for topic, reason in reasons.items():
            if topic not in halted:
                self._halts.halt(topic, reason)

    def _judge(self, survey: Survey) -> None:
        positions, extent = self._standing.positions, survey.extent
        for topic in {partition.topic for partition in positions} - set(self._standing.halted):
            if self._problem(topic, survey.facts, self._before, extent) is None:
                continue
            # It may have begun to be wrong of what was read before: only what is wrong now halts.
            rows = checkpoints.read(self._session.connected(), [topic])
            now = Extent.of(list(self._standing.of_topic(topic)), self._consumer)
            if problem := self._problem(topic, self._facts([topic]), rows, now):
                self._halts.halt(topic, problem)
        crowded = watch.too_many_dead_letters(self._session.connected(), positions, self._dead_letter_limit)
        for topic, reason in crowded.items():
            self._halts.halt(topic, reason)

    def _problem(
        self,
        topic: str,
        facts: Mapping[str, TopicFacts],
        rows: Mapping[TopicPartition, Checkpoint],
        extent: Extent,
    ) -> str | None:
        mine = [row for at, row in rows.items() if at.topic == topic and at in self._standing.positions]
        return topic_problem(topic, facts.get(topic), mine, extent.starts, extent.ends)

    def _facts(self, topics: Collection[str]) -> Mapping[str, TopicFacts]:
        admin = self._driver.admin()
        try:
            return admin.describe(sorted(topics))
        finally:
            admin.close()
