from __future__ import annotations

from itertools import pairwise

import pytest

from mesh_core.log import TopicPartition
from mesh_core.log.ownership import Ownership
from tests.log.reading import Starts

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("mesh_core.log.ownership.time.monotonic", lambda: now[0])
    return now


def test_what_is_assigned_is_read_from_where_the_listener_says() -> None:
    ownership = Ownership(Starts({A: 7}))
    ownership.report("assigned", [A, B])
    assert ownership.disturbed() == {A, B}
    assert ownership.settle() == {A: 7, B: 0}
    assert ownership.settle() == {}
    assert ownership.positions == {A: 7, B: 0}
    assert ownership.disturbed() == set()


def test_a_failing_listener_is_asked_again_after_growing_pauses(clock: list[float]) -> None:
    listener = Starts(failures=4)
    ownership = Ownership(listener)
    ownership.report("assigned", [A])
    asked_at = []
    while not ownership.positions:
        before = len(listener.assigned_calls)
        ownership.settle()
        if len(listener.assigned_calls) > before:
            asked_at.append(round(clock[0] - 100, 2))
            assert (ownership.error is None) == bool(ownership.positions)
        clock[0] += 0.05
    assert asked_at[0] == 0
    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.051)


def test_a_start_that_is_missing_is_a_failure() -> None:
    class Forgetful(Starts):
        def assigned(self, partitions):  # type: ignore[no-untyped-def]
            return {}

    ownership = Ownership(Forgetful())
    ownership.report("assigned", [A])
    assert ownership.settle() == {}
    assert ownership.error is not None
    assert "No start was given for a[0]" in ownership.error


def test_what_is_revoked_while_waiting_is_not_started(clock: list[float]) -> None:
    ownership = Ownership(listener := Starts(failures=1))
    ownership.report("assigned", [A])
    ownership.settle()
    ownership.report("revoked", [A])
    ownership.report("assigned", [B])
    assert ownership.settle() == {B: 0}
    assert listener.revoked_calls == [{A}]


def test_a_partition_that_comes_back_starts_anew_and_is_no_longer_paused() -> None:
    ownership = Ownership(listener := Starts())
    ownership.report("assigned", [A])
    ownership.settle()
    ownership.positions[A] = 50
    ownership.paused.add(A)
    ownership.report("lost", [A])
    ownership.report("assigned", [A])
    assert ownership.settle() == {A: 0}
    assert ownership.paused == set()
    assert listener.lost_calls == [{A}]


def test_an_error_of_revoked_is_not_swallowed() -> None:
    class Broken(Starts):
        def revoked(self, partitions):  # type: ignore[no-untyped-def]
            raise RuntimeError("broken")

    ownership = Ownership(Broken())
    ownership.report("assigned", [A])
    ownership.settle()
    ownership.report("revoked", [A])
    with pytest.raises(RuntimeError, match="broken"):
        ownership.settle()
    assert ownership.positions == {}
