"""The naive model holds to the rules that it is to judge the engine by."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.domain import TOPIC_IDS
from tests.engine.histories import History, Plan, histories, plans, records_of
from tests.engine.naive import NaiveMesh
from tests.engine.totals import CATALOG


def lived(plan: Plan) -> NaiveMesh:
    mesh = NaiveMesh(CATALOG, TOPIC_IDS)
    for poll in plan.polls:
        for chunk in poll:
            for record in records_of(chunk):
                mesh.apply(record)
    return mesh


@st.composite
def two_plans(draw: Any) -> tuple[Plan, Plan]:
    history: History = draw(histories())
    return draw(plans(st.just(history))), draw(plans(st.just(history)))


@pytest.mark.timeout(400)  # pure Python, at the mercy of a busy machine
@given(plans())
@settings(max_examples=50, deadline=None)
def test_every_record_is_counted_once(plan: Plan) -> None:
    mesh = lived(plan)
    for (topic, partition), counts in mesh.counters.items():
        held = [r for r in plan.history.records if (r.topic, r.partition) == (topic, partition)]
        assert counts["consumed"] == len(held)
        assert counts.total() == 2 * counts["consumed"]
        assert min(counts.values()) >= 0


@pytest.mark.timeout(400)
@given(two_plans())
@settings(max_examples=50, deadline=None)
def test_rows_do_not_depend_on_the_way_they_were_delivered(both: tuple[Plan, Plan]) -> None:
    same_rows(both)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(two_plans())
@settings(max_examples=10_000, derandomize=False, deadline=None)
def test_rows_do_not_depend_on_the_way_they_were_delivered_at_length(both: tuple[Plan, Plan]) -> None:
    same_rows(both)


def same_rows(both: tuple[Plan, Plan]) -> None:
    first, second = lived(both[0]), lived(both[1])
    assert first.rows == second.rows
    assert first.sequences == second.sequences
    for view in CATALOG.views:
        assert first.view(view) == second.view(view)
