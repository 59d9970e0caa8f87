"""What a projector holds of its partitions: let go, moved on, and cut to what is still to be applied."""

from __future__ import annotations

from mesh_core.engine.standing import Standing
from mesh_core.log import Chunk, Position, TopicPartition
from mesh_core.store.checkpoints import Checkpoint

MINE, OTHER, HALTED = (TopicPartition(topic, 0) for topic in ("mine.events", "other.events", "halted.events"))


def row(partition: TopicPartition, next_offset: int, fence: int = 1) -> Checkpoint:
    return Checkpoint(partition, next_offset, fence, "id", 1, None)


def chunk(partition: TopicPartition, first: int, end: int) -> Chunk:
    count = end - first
    return Chunk(
        partition, [b"k"] * count, [b"{}"] * count, list(range(first, end)), [0] * count, [], end + 1
    )


def standing() -> Standing:
    found = Standing()
    found.take({MINE: row(MINE, 10), HALTED: row(HALTED, 10)})
    found.halted["halted.events"] = "because"
    return found


def test_of_a_chunk_that_failed_only_what_was_not_committed_is_left() -> None:
    left = standing().still_ours([chunk(MINE, 8, 12), chunk(OTHER, 8, 12), chunk(HALTED, 8, 12)])
    assert [(found.partition, found.offsets, found.next_offset) for found in left] == [(MINE, [10, 11], 13)]


def test_of_a_chunk_that_was_committed_nothing_is_left() -> None:
    assert standing().still_ours([chunk(MINE, 5, 9)]) == []


def test_a_chunk_past_the_checkpoint_stays_whole() -> None:
    whole = chunk(MINE, 10, 12)
    assert standing().still_ours([whole]) == [whole]


def test_a_partition_with_another_fence_was_taken_by_another() -> None:
    mine = standing()
    rows = {MINE: row(MINE, 20, fence=2), HALTED: row(HALTED, 11)}
    assert mine.taken_by_others(rows) == [MINE]
    mine.release([MINE])
    mine.reposition(rows)
    assert (mine.positions, mine.fences) == ({HALTED: 11}, {HALTED: 1})


def test_a_commit_moves_owned_partitions_on_and_never_back() -> None:
    mine = standing()
    mine.advance({MINE: 12, HALTED: 9, OTHER: 5})
    assert mine.positions == {MINE: 12, HALTED: 10}


def test_a_halted_topic_is_not_waited_for() -> None:
    mine = standing()
    assert mine.reached(Position({MINE: 10, HALTED: 99}))
    assert not mine.reached(Position({MINE: 11}))
    assert not mine.reached(Position({OTHER: 0}))
