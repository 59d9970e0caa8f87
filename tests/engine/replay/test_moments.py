"""At every position of any history a replay gives the rows that the naive model has there."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from psycopg.types.json import set_json_loads

from mesh_core.engine.replay import Declared, Wishes, replayed
from mesh_core.log.interface import Driver, TopicFacts
from mesh_core.log.position import Position, TopicPartition
from mesh_core.store.migrate import migrate
from tests.engine.domain import PARTITIONS, TOPIC_IDS
from tests.engine.histories import History, histories
from tests.engine.naive import NaiveMesh
from tests.engine.played import PlayedLog
from tests.engine.replay.replaying import Rows, rows_of
from tests.engine.totals import CATALOG
from tests.support.services import fresh_database

EPOCH_MS = 1_767_225_600_000
EVERY = sorted(TopicPartition(topic, n) for topic, count in PARTITIONS.items() for n in range(count))


class PastLog(PlayedLog):
    """A log that can be asked for topics and times, besides."""

    def consumer(self, group: str | None = None) -> PastLog:
        return PastLog(self._history, self._records)

    def admin(self) -> PastLog:
        return self

    def describe(self, names: Collection[str]) -> dict[str, TopicFacts]:
        return {name: TopicFacts(name, TOPIC_IDS[name], PARTITIONS[name], "delete", -1, -1) for name in names}

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        ends = self.end_offsets(partitions)
        return {
            at: next(
                (r.offset for r in self._history.of(at) if EPOCH_MS + r.offset >= timestamp_ms), ends[at]
            )
            for at in partitions
        }


@pytest.fixture(scope="module")
def database(services: Any) -> Iterator[str]:
    with fresh_database(services.database_url) as url:
        migrate(url)
        yield url


def naive_at(history: History, ends: dict[TopicPartition, int], view: str) -> Rows:
    mesh = NaiveMesh(CATALOG, TOPIC_IDS)
    for record in history.records:
        if record.offset < ends.get(TopicPartition(record.topic, record.partition), 0):
            mesh.apply(record)
    return mesh.view(view)


def replay_at(
    database: str, history: History, view: str, as_of: Position | datetime
) -> tuple[Rows, Position]:
    model = CATALOG.views[view]
    entities = {name: CATALOG.entities[name] for name in model.entities}
    declared = Declared(model, entities, list(CATALOG.contracts.values()), sorted(TOPIC_IDS), None)
    with replayed(database, cast(Driver, PastLog(history)), declared, Wishes(as_of)) as found:
        set_json_loads(partial(json.loads, parse_float=Decimal), found.connection)
        return rows_of(found), found.position


MOMENTS = st.tuples(
    st.sampled_from(sorted(CATALOG.views)),
    st.lists(st.floats(0, 1), min_size=len(EVERY), max_size=len(EVERY)),
)


def hold_at_positions(database: str, history: History, moments: list[tuple[str, list[float]]]) -> None:
    for view, parts in moments:
        ends = {at: round(part * history.ends.get(at, 0)) for at, part in zip(EVERY, parts, strict=True)}
        note(f"{view} at {ends}")
        rows, position = replay_at(database, history, view, Position(ends))
        assert rows == naive_at(history, ends, view), position


def hold_at_times(database: str, history: History, views: list[tuple[str, int]]) -> None:
    for view, milliseconds in views:
        time = datetime.fromtimestamp((EPOCH_MS + milliseconds) / 1000, UTC)
        rows, position = replay_at(database, history, view, time)
        ends = {at: min(milliseconds, history.ends.get(at, 0)) for at in EVERY}
        assert rows == naive_at(history, ends, view), position


TIMES = st.lists(
    st.tuples(st.sampled_from(sorted(CATALOG.views)), st.integers(0, 20)), min_size=2, max_size=2
)
PLAINLY = {"deadline": None, "suppress_health_check": list(HealthCheck)}
BRIEFLY: Any = {**PLAINLY, "phases": [Phase.explicit, Phase.reuse, Phase.generate]}


@pytest.mark.timeout(400)
@given(history=histories(), moments=st.lists(MOMENTS, min_size=3, max_size=3))
@settings(max_examples=5, **BRIEFLY)
def test_a_replay_is_what_the_naive_model_is_at_its_position(
    database: str, history: History, moments: list[tuple[str, list[float]]]
) -> None:
    hold_at_positions(database, history, moments)


@pytest.mark.timeout(400)
@given(history=histories(), views=TIMES)
@settings(max_examples=3, **BRIEFLY)
def test_by_time_it_is_what_lies_before_it_in_each_partition(
    database: str, history: History, views: list[tuple[str, int]]
) -> None:
    hold_at_times(database, history, views)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(history=histories(60), moments=st.lists(MOMENTS, min_size=5, max_size=5), views=TIMES)
@settings(max_examples=60, derandomize=False, **PLAINLY)  # type: ignore[arg-type]
def test_it_is_so_at_hundreds_of_positions(
    database: str, history: History, moments: list[tuple[str, list[float]]], views: list[tuple[str, int]]
) -> None:
    hold_at_positions(database, history, moments)
    hold_at_times(database, history, views)
