"""Histories of rows as the naive model tells them, and a log in memory that `lineage` can read."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from mesh_core.engine.lineage import Lineage
from mesh_core.engine.retelling import Step
from mesh_core.log.interface import Chunk, TopicFacts
from mesh_core.log.position import TopicPartition
from mesh_core.model import Catalog
from tests.engine.domain import PARTITIONS, TOPIC_IDS
from tests.engine.histories import History
from tests.engine.naive import NaiveMesh
from tests.engine.naive_state import Place, Record
from tests.engine.played import PlayedLog

Key = tuple[Any, ...]


def timestamp(record: Record) -> int:
    """When a record was written, by clocks that go back now and then, and often agree."""
    return 1_767_225_600_000 + zlib.crc32(repr(record.place).encode()) % 20 + record.offset * 3


class ToldLog(PlayedLog):
    """A log whose timestamps are those of `timestamp`; it can say what there is, and be paused."""

    def consumer(self, group: str | None = None) -> ToldLog:
        return ToldLog(self._history, self._records)

    def admin(self) -> Self:
        return self

    def describe(self, names: Collection[str]) -> dict[str, TopicFacts]:
        return {
            name: TopicFacts(name, TOPIC_IDS[name], PARTITIONS[name], "delete", -1, -1)
            for name in names
            if name in PARTITIONS
        }

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            self._standing.pop(partition, None)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """What is assigned anew is read."""

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        found = super().poll(max_records, timeout)
        for chunk in found:
            at = chunk.partition
            chunk.timestamps = [
                timestamp(Record(at.topic, at.partition, offset, None, None)) for offset in chunk.offsets
            ]
        return found


def in_order(history: History) -> list[Record]:
    """All records, merged by timestamp, then topic and partition: by the latest timestamp of the partition so far."""
    found = []
    for partition in history.ends:
        records = history.of(partition)
        latest = accumulate(map(timestamp, records), max)
        found += [
            (when, partition, record.offset, record) for when, record in zip(latest, records, strict=True)
        ]
    return [record for *_, record in sorted(found, key=lambda each: each[:3])]


@dataclass(frozen=True)
class Touch:
    """An event that changed a row, and which columns."""

    place: Place
    change: str
    columns: frozenset[str]


def naive_touches(catalog: Catalog, history: History) -> dict[tuple[str, Key], list[Touch]]:
    """What the naive model says touched each row of each view."""
    mesh = NaiveMesh(catalog, TOPIC_IDS)
    before: dict[str, Mapping[Key, Mapping[str, Any]]] = {name: {} for name in catalog.views}
    found: dict[tuple[str, Key], list[Touch]] = {}
    for record in in_order(history):
        mesh.apply(record)
        for name in catalog.views:
            now = mesh.view(name)
            for key in {*now, *before[name]}:
                one, other = before[name].get(key), now.get(key)
                if one != other:
                    change, columns = changed(one, other)
                    found.setdefault((name, key), []).append(Touch(record.place, change, columns))
            before[name] = now
    return found


def changed(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> tuple[str, frozenset[str]]:
    if one is None or other is None:
        return ("created" if one is None else "deleted"), frozenset(one or other or ())
    return "changed", frozenset(name for name in one if one[name] != other[name])


def touches(told: Lineage) -> list[Touch]:
    """The same of what was told."""
    return list(map(_touch, told.steps))


def _touch(step: Step) -> Touch:
    change, columns = changed(step.before, step.after)
    return Touch((step.cause.topic, step.cause.partition, step.cause.offset), change, columns)
