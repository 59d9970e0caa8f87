"""What is gathered for one transaction: bounded, and nothing that was polled is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from mesh_core.engine.gathering import Gatherer
from mesh_core.engine.intake import Batch, Intake
from mesh_core.log import Chunk, Consumer, Headers, OffsetOutOfRange, TopicPartition

GOOD, CUT = TopicPartition("good.events", 0), TopicPartition("cut.events", 0)


def chunk(first: int, end: int, headers: list[Headers] | None = None) -> Chunk:
    count = end - first
    return Chunk(
        GOOD, [b"k"] * count, [b"{}"] * count, list(range(first, end)), [0] * count, headers or [], end, first
    )


class Polls:
    """Answers polls from a script."""

    def __init__(self, answers: Sequence[list[Chunk] | Exception]) -> None:
        self.answers = list(answers)
        self.waited = list[float]()

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        self.waited.append(timeout)
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer


class Undecoded(Intake):
    """Takes records as they are."""

    def __init__(self) -> None:
        super().__init__([], [])

    def batch(self, chunk: Chunk) -> Batch:
        return Batch(chunk, list(chunk.values))


def gather(
    gatherer: Gatherer, consumer: Consumer, writing: Sequence[bool] = (), timeout: float = 1.0
) -> list[Batch]:
    """What is gathered; `writing` tells whether something is being written at each poll, and nothing is after it."""
    answers = iter(writing)
    return gatherer.gather(consumer, timeout, Undecoded(), None, lambda: next(answers, False))


def polls(*answers: list[Chunk] | Exception) -> Consumer:
    return cast(Consumer, Polls(answers))


def test_chunks_of_one_partition_are_joined() -> None:
    (found,) = gather(Gatherer(500, 20_000), polls([chunk(0, 10)], [chunk(10, 20)]), [True])
    assert (found.chunk.offsets, found.chunk.start, found.chunk.next_offset) == (list(range(20)), 0, 20)
    assert len(found.items) == len(found.chunk.keys) == len(found.chunk.values) == 20


def test_a_poll_that_finds_few_is_the_last() -> None:
    scripted = Polls([[chunk(0, 600)], [chunk(600, 610)], [chunk(610, 620)]])
    (found,) = gather(Gatherer(5_000, 20_000), cast(Consumer, scripted))
    assert (len(found), len(scripted.waited)) == (610, 2)


def test_headers_of_some_records_are_lined_up_with_all() -> None:
    without = chunk(0, 1)
    with_ = chunk(1, 2, [[("a", b"b")]])
    (found,) = gather(Gatherer(500, 20_000), polls([without], [with_], [chunk(2, 3)]), [True, True])
    assert list(map(list, found.chunk.headers)) == [[], [("a", b"b")], []]


def test_while_a_batch_is_written_it_reads_ahead_and_then_waits_for_nothing() -> None:
    scripted = Polls([[], [chunk(0, 2)], [], [chunk(2, 3)]])
    (found,) = gather(Gatherer(500, 20_000), cast(Consumer, scripted), [True, True, True], timeout=9.0)
    assert found.chunk.offsets == [0, 1, 2]
    assert max(scripted.waited) < 0.1


def test_what_is_written_ends_the_wait_for_records() -> None:
    scripted = Polls([])
    assert gather(Gatherer(500, 20_000), cast(Consumer, scripted), [True], timeout=9.0) == []
    assert max(scripted.waited) < 0.1


def test_what_was_polled_before_another_topic_was_found_cut_is_not_lost() -> None:
    gatherer = Gatherer(500, 20_000)
    consumer = polls([chunk(0, 10)], OffsetOutOfRange(CUT, 0, 5, 9), OffsetOutOfRange(CUT, 0, 5, 9))
    assert [found.chunk.offsets for found in gather(gatherer, consumer)] == [list(range(10))]
    with pytest.raises(OffsetOutOfRange):
        gather(gatherer, consumer)


def test_the_target_grows_with_the_lag_and_falls_back_after() -> None:
    gatherer = Gatherer(10, 1000)
    for expected in (100, 1000, 1000):
        gather(gatherer, polls([chunk(0, gatherer.target)]))
        assert gatherer.target == expected
    gather(gatherer, polls([chunk(0, 3)]))
    assert gatherer.target == 10


def test_few_records_that_are_large_are_no_sign_of_the_end() -> None:
    large, more = chunk(0, 3), chunk(3, 6)
    large.values[:] = [b"x" * 100_000] * 3
    (found,) = gather(Gatherer(500, 20_000), polls([large], [more], [chunk(6, 9)]))
    assert len(found) == 6
