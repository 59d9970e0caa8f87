"""A history names exactly the events that the naive model says touched the row.

On real Postgres; the log is played from memory, with timestamps that go back now and then.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

from mesh_core.engine.lineage import lineage
from mesh_core.log.interface import Driver
from mesh_core.model.identifiers import key_text
from tests.engine import test_histories
from tests.engine.histories import Plan, plans
from tests.engine.test_histories import Engine
from tests.engine.told import ToldLog, naive_touches, touches
from tests.engine.totals import CATALOG

engine = test_histories.engine


def tells_what_the_naive_model_does(engine: Engine, plan: Plan, most: int) -> Counter[str]:
    """Compare so many rows that there ever were, of any view; what was compared."""
    engine.reset()
    engine.deliver(plan)
    expected = naive_touches(CATALOG, plan.history)
    driver = cast(Driver, ToldLog(plan.history))
    rows = sorted(expected, key=repr)
    compared: Counter[str] = Counter()
    for view, key in random.Random(len(plan.polls)).sample(rows, min(most, len(rows))):
        found = touches(lineage(engine.url, driver, view, key_text(key)))
        assert found == expected[view, key], (view, key)
        compared += Counter(rows=1, events=len(found))
        compared["decided"] += sum(each.place[0] == "mesh.events" for each in found)
    return compared


@pytest.mark.timeout(400)
@given(plan=plans())
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_a_history_names_the_events_that_touched_the_row(engine: Engine, plan: Plan) -> None:
    note(str(plan))
    tells_what_the_naive_model_does(engine, plan, 5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_history_names_the_events_that_touched_each_of_a_thousand_rows(engine: Engine) -> None:
    compared: Counter[str] = Counter()

    @given(plan=plans())
    @settings(max_examples=300, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
    def compare(plan: Plan) -> None:
        note(str(plan))
        compared.update(tells_what_the_naive_model_does(engine, plan, 6))

    compare()
    print(dict(compared))  # noqa: T201  # what a soak run has done
    assert compared["rows"] >= 1000
    assert compared["decided"] > 0
