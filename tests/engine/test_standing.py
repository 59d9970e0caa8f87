"""What a projector holds of its partitions: let go, moved on, and cut to what is reached."""

from __future__ import annotations

from mesh_core.engine.standing import Standing
from mesh_core.log import Position, TopicPartition
from mesh_core.store.checkpoints import Checkpoint

MINE, OTHER, HALTED = (TopicPartition(topic, 0) for topic in ("mine.events", "other.events", "halted.events"))


def row(partition: TopicPartition, next_offset: int, fence: int = 1) -> Checkpoint:
    return Checkpoint(partition, next_offset, fence, "id", 1, None)


def standing() -> Standing:
    found = Standing()
    found.take({MINE: row(MINE, 10), HALTED: row(HALTED, 10)})
    found.halted["halted.events"] = "because"
    return found


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
