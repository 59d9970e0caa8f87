"""An archive and the topic that goes on from it, read as one log."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh_core.extras import arrow
from mesh_core.log.archive.errors import ArchiveRefused
from mesh_core.log.archive.manifest import File, Manifest
from mesh_core.log.archive.records import chunks_of, parted
from mesh_core.log.interface import Admin, AssignmentListener, Chunk, Consumer, Driver, Producer
from mesh_core.log.lifetime import Closing
from mesh_core.log.position import Position, TopicPartition

_logger = logging.getLogger(__name__)


def archived(driver: Driver, folder: Path) -> Driver:
    """A driver whose consumers outside groups read what archives in `folder` have before what their topics have.

    Raises UsageError where archives cannot be read here, ArchiveRefused where there is no such folder.
    """
    arrow()
    if not folder.is_dir():
        raise ArchiveRefused(
            f"There is no folder {folder}.",
            remedy="Correct MESH_ARCHIVE, or make it by mesh events export --to.",
        )
    return _ArchivedDriver(driver, folder)


def with_archive(driver: Driver, folder: Path | None) -> Driver:
    """The driver as it is, or `archived` in a folder."""
    return driver if folder is None else archived(driver, folder)


@dataclass(frozen=True)
class _ArchivedDriver:
    inner: Driver
    folder: Path

    def consumer(self, group: str | None = None, instance_id: str | None = None) -> Consumer:
        """See `Driver.consumer`."""
        if group is not None:
            return self.inner.consumer(group, instance_id)
        return _ArchivedConsumer(self.inner, self.folder)

    def producer(self) -> Producer:
        """See `Driver.producer`."""
        return self.inner.producer()

    def admin(self) -> Admin:
        """See `Driver.admin`."""
        return self.inner.admin()

    def reachable(self, timeout: float = 1.0) -> bool:
        """See `Driver.reachable`."""
        return self.inner.reachable(timeout)


class _ArchivedConsumer(Closing):
    """Gives what is archived of its partitions, and what their topics have of others meanwhile.

    Kafka's consumer has all partitions from the first: those of which an archive is read stand at its end, and are paused.
    """

    def __init__(self, driver: Driver, folder: Path) -> None:
        self._driver, self._folder = driver, folder
        self._kafka = driver.consumer(None)
        self._manifests: dict[str, Manifest | None] = {}
        self._warned: set[str] = set()
        self._reading: dict[TopicPartition, Iterator[Chunk]] = {}
        self._standing: dict[TopicPartition, int] = {}
        """The next offset of what is being read of archives."""
        self._rest: dict[TopicPartition, Chunk] = {}
        """What was read, but not asked for yet."""
        self._paused: set[TopicPartition] = set()
        """What `pause` stopped; Kafka's consumer has others paused, too."""
        self._kafkas_turn = False

    # ---- what there is

    def _manifest(self, topic: str) -> Manifest | None:
        if topic not in self._manifests:
            self._manifests[topic] = found = Manifest.read(self._folder / topic)
            if found is not None and (why := self._unfit(topic, found)) is not None:
                self._manifests[topic] = None
                self._warn(topic, why)
        return self._manifests[topic]

    def _unfit(self, topic: str, found: Manifest) -> str | None:
        """Why this is no archive of the topic as it is now."""
        if not found.whole:
            return "it is a selection"
        with self._driver.admin() as admin:
            facts = admin.describe([topic]).get(topic)
        return None if facts is not None and found.is_of(facts) else "it is of another topic of that name"

    def _warn(self, topic: str, why: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            _logger.warning("the archive %s is not read: %s", self._folder / topic, why)

    def _archived(self, at: TopicPartition, begin: int) -> tuple[int, int] | None:
        """The range that is archived of a partition whose log begins at `begin`, if the one goes on from the other."""
        manifest = self._manifest(at.topic)
        found = manifest.range_of(at.partition) if manifest is not None else None
        if manifest is not None and (found[1] if found is not None else 0) < begin:
            end = "nothing of it" if found is None else f"its records until {found[1]}"
            self._warn(at.topic, f"the log of {at} starts at {begin}, and it has {end}")
            return None
        return found

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.beginning_offsets`."""
        begins = self._kafka.beginning_offsets(partitions)
        ranges = {at: self._archived(at, begin) for at, begin in begins.items()}
        return {at: min(begin, found[0]) if (found := ranges[at]) else begin for at, begin in begins.items()}

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Consumer.end_offsets`."""
        return self._kafka.end_offsets(partitions)

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """See `Consumer.offsets_for_time`."""
        found = self._kafka.offsets_for_time(partitions, timestamp_ms)
        begins = self._kafka.beginning_offsets(partitions)
        for at in partitions:
            if self._archived(at, begins[at]) is not None:
                offset = self._first_since(at, timestamp_ms, begins[at])
                found[at] = found[at] if offset is None else min(offset, found[at])
        return found

    def _first_since(self, at: TopicPartition, timestamp_ms: int, before: int) -> int | None:
        for file in self._files(at):
            if file.first_offset >= before or file.latest is None or file.latest < timestamp_ms:
                continue
            for chunk in chunks_of(self._folder / at.topic, at.topic, file, file.first_offset):
                for offset, timestamp in zip(chunk.offsets, chunk.timestamps, strict=True):
                    if timestamp >= timestamp_ms and offset < before:
                        return offset
        return None

    def _files(self, at: TopicPartition) -> list[File]:
        manifest = self._manifest(at.topic)
        return manifest.of(at.partition) if manifest is not None else []

    # ---- reading

    def assign(self, start: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.assign`."""
        ends = self._begin(start)
        self._reading = {at: self._chunks(at, start[at]) for at in ends}
        self._standing = {at: start[at] for at in ends}
        self._rest.clear()
        self._paused.clear()
        self._kafka.resume(self._kafka.paused())
        self._kafka.assign({**start, **ends})
        self._kafka.pause(ends)

    def _begin(self, start: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Where the archives end of those that are to be read from archives first."""
        kept = [at for at in start if self._files(at)]
        begins = self._kafka.beginning_offsets(kept) if kept else {}
        ends = {}
        for at in kept:
            found = self._archived(at, begins[at])
            if found is not None and found[0] <= start[at] < begins[at]:
                ends[at] = found[1]
        return ends

    def _chunks(self, at: TopicPartition, begin: int) -> Iterator[Chunk]:
        for file in self._files(at):
            if file.next_offset > begin:
                yield from chunks_of(self._folder / at.topic, at.topic, file, max(begin, file.first_offset))

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        """See `Consumer.poll`."""
        while ready := [at for at in self._reading if at not in self._paused]:
            self._kafkas_turn = not self._kafkas_turn
            others = self._kafkas_turn and self._kafka.positions().offsets.keys() - self._reading.keys()
            if others and (chunks := self._kafka.poll(max_records, 0)):
                return chunks
            at = ready[0]
            chunk = self._rest.pop(at, None) or next(self._reading[at], None)
            if chunk is None:
                self._leave(at)
                self._kafka.resume([at])
                continue
            self._reading[at] = self._reading.pop(at)  # the next poll gives another partition's
            chunk.start = self._standing[at]
            if len(chunk.offsets) > max_records:
                chunk, self._rest[at] = parted(chunk, max_records)
            self._standing[at] = chunk.next_offset
            return [chunk]
        return self._kafka.poll(max_records, timeout)

    def _leave(self, at: TopicPartition) -> None:
        """Read no more of its archive."""
        for each in (self._reading, self._standing, self._rest):
            each.pop(at, None)

    def positions(self) -> Position:
        """See `Consumer.positions`."""
        return Position({**self._kafka.positions().offsets, **self._standing})

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See `Consumer.seek`."""
        begun = self._begin({partition: offset})
        self._kafka.seek(partition, begun.get(partition, offset))
        self._leave(partition)
        if begun:
            self._reading[partition], self._standing[partition] = self._chunks(partition, offset), offset
            self._kafka.pause([partition])
        elif partition not in self._paused:
            self._kafka.resume([partition])

    def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        """See `Consumer.subscribe`: groups read what is live."""
        self._kafka.subscribe(topics, listener)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        self._paused |= self._kafka.positions().offsets.keys() & set(partitions)
        self._kafka.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        self._paused -= set(partitions)
        self._kafka.resume(set(partitions) - self._reading.keys())

    def paused(self) -> set[TopicPartition]:
        """See `Consumer.paused`."""
        return self._paused & self._kafka.paused()

    def commit_hint(self, position: Position) -> None:
        """See `Consumer.commit_hint`."""
        self._kafka.commit_hint(position)

    @property
    def last_error(self) -> str | None:
        """See `Consumer.last_error`."""
        return self._kafka.last_error

    def close(self) -> None:
        """See `Consumer.close`."""
        self._reading, self._rest = {}, {}
        self._kafka.close()
