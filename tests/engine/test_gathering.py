"""What is gathered for one transaction: bounded, and nothing that was polled is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from mesh_core.engine.gathering import Gatherer
from mesh_core.log import Chunk, Consumer, OffsetOutOfRange, TopicPartition

GOOD, CUT = TopicPartition("good.events", 0), TopicPartition("cut.events", 0)


def chunk(first: int, end: int) -> Chunk:
    count = end - first
    return Chunk(GOOD, [b"k"] * count, [b"{}"] * count, list(range(first, end)), [0] * count, [], end)


class Polls:
    """Answers polls from a script."""

    def __init__(self, answers: Sequence[list[Chunk] | Exception]) -> None:
        self.answers = list(answers)

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer


def polls(*answers: list[Chunk] | Exception) -> Consumer:
    return cast(Consumer, Polls(answers))


def test_chunks_of_one_partition_are_joined() -> None:
    (found,) = Gatherer(500, 20_000).gather(polls([chunk(0, 10)], [chunk(10, 20)]), 1.0)
    assert (found.offsets, found.next_offset) == (list(range(20)), 20)


def test_what_was_polled_before_another_topic_was_found_cut_is_not_lost() -> None:
    gatherer = Gatherer(500, 20_000)
    consumer = polls([chunk(0, 10)], OffsetOutOfRange(CUT, 0, 5, 9), OffsetOutOfRange(CUT, 0, 5, 9))
    assert [found.offsets for found in gatherer.gather(consumer, 1.0)] == [list(range(10))]
    with pytest.raises(OffsetOutOfRange):
        gatherer.gather(consumer, 1.0)


def test_the_target_grows_with_the_lag_and_falls_back_after() -> None:
    gatherer = Gatherer(10, 40)
    for expected in (20, 40, 40):
        gatherer.gather(polls([chunk(0, gatherer.target)]), 1.0)
        assert gatherer.target == expected
    gatherer.gather(polls([chunk(0, 3)]), 1.0)
    assert gatherer.target == 10
