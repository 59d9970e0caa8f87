"""Reads the log up to given offsets, over and again, and finds in it the records that may have had to do with a row.

Of what is found only places are kept: where a record is, and when its partition had come to it. The order of all records
is that of these times, then of topic and partition: what a merge of the partitions by their records' timestamps gives.
"""

from __future__ import annotations

import heapq
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

from mesh_core.engine.intake import At
from mesh_core.engine.relatives import Reading, Relatives
from mesh_core.engine.routing import Router
from mesh_core.log.errors import LogUnavailable
from mesh_core.log.interface import Chunk, Consumer, Headers
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.identifiers import key_text
from mesh_core.read.errors import HistoryTooLong
from mesh_core.store.held import Place, text_of_key
from mesh_core.store.lookups import Decision

POLL_RECORDS = 20_000
WINDOW = 500
"""Records that are in memory at once while they are read in their order."""
GAP = 20_000
"""Records between two that are wanted which are not read."""
STALL_SECONDS = 30.0


@dataclass
class Log:
    """The log up to `ends`; `most` is how many records may be read of it in all, None any number."""

    consumer: Consumer
    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    most: int | None = None
    read: int = 0

    def whole(self, topics: Collection[str]) -> Iterator[Chunk]:
        """All records of these topics, each partition in its order. Raises HistoryTooLong and LogUnavailable."""
        start = {at: self.begins[at] for at in self.ends if at.topic in topics}
        return self._chunks(start, self.ends)

    def records(self, places: Iterable[Place]) -> Iterator[Chunk]:
        """The records at these places in their order, each as a chunk of its own. Raises as `whole` does."""
        left = iter(places)
        while window := list(islice(left, WINDOW)):
            wanted: dict[TopicPartition, list[int]] = {}
            for partition, offset in window:
                wanted.setdefault(partition, []).append(offset)
            found = self._at(wanted)
            yield from (found[place] for place in window)

    def _at(self, wanted: Mapping[TopicPartition, Sequence[int]]) -> dict[Place, Chunk]:
        found: dict[Place, Chunk] = {}
        stretches = {at: _stretches(offsets) for at, offsets in wanted.items()}
        places = {(at, offset) for at, offsets in wanted.items() for offset in offsets}
        while stretches:
            first = {at: each.pop(0) for at, each in stretches.items()}
            start = {at: each[0] for at, each in first.items()}
            for chunk in self._chunks(start, {at: each[1] + 1 for at, each in first.items()}):
                for n, offset in enumerate(chunk.offsets):
                    if (chunk.partition, offset) in places:
                        found[chunk.partition, offset] = _part(chunk, n)
            stretches = {at: each for at, each in stretches.items() if each}
        if missing := places - found.keys():
            at, offset = min(missing)
            raise LogUnavailable(
                f"The record {at} offset {offset} was in the log and is not any more.",
                remedy="Ask again; see that topics keep their records for ever.",
            )
        return found

    def _chunks(
        self, start: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> Iterator[Chunk]:
        standing = {at: offset for at, offset in start.items() if offset < ends[at]}
        self.read += sum(ends[at] - offset for at, offset in standing.items())
        if self.most is not None and self.read > self.most:
            raise HistoryTooLong(
                f"The history needs {self.read:,} records to be read, more than {self.most:,}.",
                remedy="Use mesh history, which may read any number, or raise MESH_HISTORY_EVENTS.",
            )
        if not standing:
            return
        self.consumer.assign(standing)
        done: list[TopicPartition] = []
        deadline = time.monotonic() + STALL_SECONDS
        try:
            while standing:
                for chunk in self.consumer.poll(POLL_RECORDS, 1.0):
                    at = chunk.partition
                    if at not in standing:
                        continue
                    deadline = time.monotonic() + STALL_SECONDS
                    standing[at] = chunk.next_offset
                    if chunk.next_offset >= ends[at]:
                        del standing[at]
                        done.append(at)
                        self.consumer.pause([at])
                        count = sum(offset < ends[at] for offset in chunk.offsets)
                        chunk = chunk if count == len(chunk.offsets) else _part(chunk, 0, count)
                    if chunk.offsets:
                        yield chunk
                if standing and time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"The log gave nothing for {STALL_SECONDS:g} s, though records are missing. "
                        f"{self.consumer.last_error or ''}".strip(),
                        remedy="See that Kafka is well, then ask again.",
                    )
        finally:
            self.consumer.resume(done)  # what stays assigned stays paused


@dataclass
class Found:
    """Records of one partition that may matter: offsets, and the latest timestamp up to each."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))


@dataclass
class Trace:
    """Finds the records that may have had to do with a row, with `decisions` on them, as far as the log is read."""

    log: Log
    relatives: Relatives
    routers: Sequence[Router]
    decisions: Mapping[Place, Sequence[Decision]]
    found: dict[TopicPartition, Found] = field(default_factory=dict)

    def run(self) -> None:
        """Find them. Raises what `Log.whole` does."""
        self.relatives.link()
        while topics := self.relatives.stale & {at.topic for at in self.log.ends}:
            self.relatives.stale.clear()
            self.found = {at: each for at, each in self.found.items() if at.topic not in topics}
            latest: dict[TopicPartition, int] = {}
            for chunk in self.log.whole(topics):
                self._take(chunk, latest)
            self.relatives.link()

    def places(self) -> Iterator[Place]:
        """Where the records are that were found, in the order of all."""
        merged = heapq.merge(*(_timed(at, each) for at, each in self.found.items()))
        return ((at, offset) for _, at, offset in merged)

    def _take(self, chunk: Chunk, latest: dict[TopicPartition, int]) -> None:
        at, offsets = chunk.partition, chunk.offsets
        before = latest.get(at, -1)
        kept = self._kept(chunk)
        latest[at] = max(before, *chunk.timestamps)
        if not kept:
            return
        times = list(accumulate(chunk.timestamps, max, initial=before))[1:]
        found = self.found.setdefault(at, Found())
        for n in kept:
            found.offsets.append(offsets[n])
            found.times.append(times[n])
            if (at, offsets[n]) in self.decisions:
                self.relatives.also(MESH_TOPIC, key_text((at.topic, at.partition, offsets[n])))

    def _kept(self, chunk: Chunk) -> list[int]:
        """Which records of a chunk matter."""
        topic, relatives = chunk.partition.topic, self.relatives
        mine = [router for router in self.routers if topic in router.intake.decoders]
        if relatives.searches(topic) or any(topic in router.intake.foreign for router in mine):
            batches = [(router, router.intake.batch(chunk)) for router in mine]
            readings = (
                [(router, text_of_key(batch.keys[n]), [batch.items[n]]) for router, batch in batches]
                for n in range(len(chunk.offsets))
            )
            return [n for n, each in enumerate(readings) if self._meets(chunk, n, each)]
        known = relatives.raw.get(topic, set())
        if relatives.is_odd(topic):
            texts = relatives.texts[topic]
            near = [n for n, key in enumerate(chunk.keys) if text_of_key(key) in texts]
        else:
            near = [n for n, key in enumerate(chunk.keys) if key in known]
        if not relatives.learns(topic):
            return near
        return [
            n for n in near if self._meets(chunk, n, [self._reading(router, chunk, n) for router in mine])
        ]

    def _meets(self, chunk: Chunk, n: int, readings: Sequence[Reading]) -> bool:
        topic, place = chunk.partition.topic, (chunk.partition, chunk.offsets[n])
        edits = [each.value for each in self.decisions.get(place, ()) if each.action == "edit"]
        if edits:
            readings = [
                (router, text, [*items, *(router.intake.read(topic, value) for value in edits)])
                for router, text, items in readings
            ]
        return self.relatives.meet(topic, readings)

    @staticmethod
    def _reading(router: Router, chunk: Chunk, n: int) -> Reading:
        headers: Headers = chunk.headers[n] if chunk.headers else ()
        key, partition = chunk.keys[n], chunk.partition
        at: At = (partition.partition, chunk.offsets[n], chunk.timestamps[n])
        item = router.intake.read(partition.topic, chunk.values[n], headers, key, at)
        return router, text_of_key(key), [item]


def _timed(at: TopicPartition, found: Found) -> Iterator[tuple[int, TopicPartition, int]]:
    for when, offset in zip(found.times, found.offsets, strict=True):
        yield when, at, offset


def _stretches(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of runs of rising offsets with no large gap between them."""
    found: list[tuple[int, int]] = []
    for offset in offsets:
        if found and offset - found[-1][1] <= GAP:
            found[-1] = (found[-1][0], offset)
        else:
            found.append((offset, offset))
    return found


def _part(chunk: Chunk, first: int, end: int | None = None) -> Chunk:
    """Some records of a chunk as one of their own, by default the first of them alone."""
    last = first + 1 if end is None else end
    return Chunk(
        chunk.partition,
        chunk.keys[first:last],
        chunk.values[first:last],
        chunk.offsets[first:last],
        chunk.timestamps[first:last],
        chunk.headers[first:last],
        chunk.offsets[last - 1] + 1 if last > first else chunk.start,
        chunk.offsets[first] if last > first else chunk.start,
    )
