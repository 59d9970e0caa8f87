from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_core.log import Position, PositionError, TopicPartition

partitions = st.builds(TopicPartition, st.sampled_from(["a.events", "b.events"]), st.integers(0, 3))
positions = st.dictionaries(partitions, st.integers(0, 9)).map(Position)


@given(positions)
def test_it_travels_as_json_and_as_a_header(position: Position) -> None:
    assert Position.from_json(position.to_json()) == position
    assert Position.from_header(position.to_header()) == position


def test_its_json_is_topics_of_partitions_in_order() -> None:
    position = Position({TopicPartition("b", 10): 1, TopicPartition("b", 9): 2, TopicPartition("a", 0): 42})
    assert position.to_header() == '{"a":{"0":42},"b":{"9":2,"10":1}}'


@given(positions, positions)
def test_a_merge_is_the_least_position_that_reaches_both(one: Position, two: Position) -> None:
    merged = one.merge(two)
    assert merged.reaches(one)
    assert merged.reaches(two)
    assert one.reaches(merged) == one.reaches(two)
    assert merged == Position({**two.merge(one).offsets})


@given(positions, positions)
def test_one_reaches_another_exactly_if_it_is_behind_nowhere(one: Position, two: Position) -> None:
    assert one.reaches(two) == (not any(two.minus(one).values()))


def test_how_far_behind() -> None:
    a, b, c = (TopicPartition(name, 0) for name in "abc")
    end, applied = Position({a: 10, b: 5}), Position({a: 4, c: 9})
    assert end.minus(applied) == {a: 6, b: 5}
    assert applied.minus(end) == {a: 0, c: 9}


def test_only_some_topics() -> None:
    a, b = TopicPartition("a", 0), TopicPartition("b", 0)
    assert Position({a: 1, b: 2}).restricted_to({"b", "c"}) == Position({b: 2})


def test_after_records() -> None:
    a, b = TopicPartition("a", 0), TopicPartition("a", 1)
    assert Position.after([(a, 5), (b, 0), (a, 3)]) == Position({a: 6, b: 1})


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ([], "an object of topics"),
        ({"a b": {}}, "'a b' is not the name of a topic"),
        ({"a": 3}, "topic a is not an object of partitions"),
        ({"a": {"-1": 3}}, "'-1' is not a partition number of topic a"),
        ({"a": {"01": 3}}, "'01' is not a partition number"),
        ({"a": {"٣": 3}}, "is not a partition number"),
        ({"a": {"0": -1}}, r"-1 is not an offset of a\[0\]"),
        ({"a": {"0": True}}, "True is not an offset"),
        ({"a": {"0": 1.0}}, "1.0 is not an offset"),
        ({"a": {"0": 2**63}}, "9223372036854775808 is not an offset"),
    ],
)
def test_what_is_not_a_position_is_refused(obj: object, message: str) -> None:
    with pytest.raises(PositionError, match=message):
        Position.from_json(obj)


@pytest.mark.parametrize("text", ["", "nonsense", "{", '{"a":{"0":' + "9" * 5_000 + "}}", "[" * 16_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(PositionError, match="not valid JSON"):
        Position.from_header(text)


def test_a_header_has_a_bound() -> None:
    with pytest.raises(PositionError, match="at most 16384"):
        Position.from_header(" " * 16_385)
