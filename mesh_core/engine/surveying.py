"""Asks Kafka what it has of topics, on a thread of its own: an answer may take long, and records must not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass

from mesh_core.log.interface import Admin, Consumer, Driver, TopicFacts
from mesh_core.log.lifetime import Closing
from mesh_core.log.position import TopicPartition

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True)
class Extent:
    """Where the log of each partition begins and ends."""

    starts: Offsets
    ends: Offsets

    @classmethod
    def of(cls, partitions: Collection[TopicPartition], consumer: Consumer) -> Extent:
        """What `consumer` is told now. Raises LogUnavailable."""
        return cls(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))

    def nearest(self, partition: TopicPartition, offset: int | None) -> int:
        """The offset, or where the log does not have it the nearest that it has; None is its beginning."""
        start = self.starts.get(partition, 0)
        wanted = start if offset is None else offset
        return min(max(wanted, start), self.ends.get(partition, wanted))


@dataclass(frozen=True)
class Survey:
    """Facts of the topics that exist, and the extent of the partitions that were asked for."""

    facts: Mapping[str, TopicFacts]
    extent: Extent


class Surveyor(Closing):
    """Asks one question at a time, with clients that it keeps as long as they answer."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._clients: tuple[Admin, Consumer] | None = None
        self._open = ExitStack()
        self._asked: Future[Survey] | None = None

    def ask(self, topics: Collection[str], partitions: Collection[TopicPartition]) -> None:
        """Begin a survey, if none is under way; `answer` has what came of it."""
        if self._asked is None:
            asked: Future[Survey] = Future()
            self._asked = asked
            threading.Thread(target=self._survey, args=(asked, topics, partitions), daemon=True).start()

    @property
    def is_asking(self) -> bool:
        """Whether a survey is under way, or was not heard yet."""
        return self._asked is not None

    @property
    def has_answer(self) -> bool:
        """Whether a survey has ended that was not heard yet."""
        return self._asked is not None and self._asked.done()

    def answer(self) -> Survey:
        """What the survey found. Raises as `Admin.describe` and `Consumer.end_offsets`."""
        assert self._asked is not None, "nothing was asked"
        asked, self._asked = self._asked, None
        return asked.result()

    def close(self) -> None:
        """Let go of the clients, unless they are in use: then they go with the process."""
        if self._asked is None or self._asked.done():
            self._open.close()

    def _survey(
        self, asked: Future[Survey], topics: Collection[str], partitions: Collection[TopicPartition]
    ) -> None:
        try:
            if self._clients is None:
                self._clients = (
                    self._open.enter_context(self._driver.admin()),
                    self._open.enter_context(self._driver.consumer()),
                )
            admin, consumer = self._clients
            asked.set_result(Survey(admin.describe(sorted(topics)), Extent.of(partitions, consumer)))
        except Exception as error:  # whatever it is, `answer` raises it
            self._clients = None
            try:
                self._open.close()
            finally:
                asked.set_exception(error)


__all__ = ["Extent", "Survey", "Surveyor"]
