"""An archive and the topic that goes on from it, read as one log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh_core.log.archive.errors import ArchiveRefused
from mesh_core.log.archive.manifest import File, Manifest
from mesh_core.log.archive.records import arrow, chunks_of
from mesh_core.log.interface import Admin, AssignmentListener, Chunk, Consumer, Driver, Producer
from mesh_core.log.lifetime import Closing
from mesh_core.log.position import Position, TopicPartition


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
    """Gives all that is archived of its partitions first, then what their topics have."""

    def __init__(self, driver: Driver, folder: Path) -> None:
        self._driver, self._folder = driver, folder
        self._kafka = driver.consumer(None)
        self._manifests: dict[str, Manifest | None] = {}
        self._reading: dict[TopicPartition, Iterator[Chunk]] = {}
        self._standing: dict[TopicPartition, int] = {}
        self._goes_on = False
        """Whether Kafka's consumer reads on where the archives end."""

    # ---- what there is

    def _manifest(self, topic: str) -> Manifest | None:
        """The archive of a topic as it is now, not of one of its name before it."""
        if topic not in self._manifests:
            found = Manifest.read(self._folder / topic)
            if found is not None:
                with self._driver.admin() as admin:
                    facts = admin.describe([topic]).get(topic)
                if not found.whole or facts is None or not found.is_of(facts):
                    found = None
            self._manifests[topic] = found
        return self._manifests[topic]

    def _archived(self, at: TopicPartition, begin: int) -> tuple[int, int] | None:
        """The range that is archived of a partition whose log begins at `begin`, if the one goes on from the other."""
        manifest = self._manifest(at.topic)
        found = manifest.range_of(at.partition) if manifest is not None else None
        return found if found is not None and found[1] >= begin else None

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
        self._standing, self._reading, self._goes_on = dict(start), {}, False
        begins = self._kafka.beginning_offsets(start)
        for at, offset in start.items():
            found = self._archived(at, begins[at])
            if offset < begins[at] and found is not None and found[0] <= offset < found[1]:
                self._reading[at] = self._chunks(at, offset)
        if not self._reading:
            self._go_on()

    def _chunks(self, at: TopicPartition, begin: int) -> Iterator[Chunk]:
        for file in self._files(at):
            if file.next_offset > begin:
                yield from chunks_of(self._folder / at.topic, at.topic, file, max(begin, file.first_offset))

    def _go_on(self) -> None:
        self._kafka.assign(self._standing)
        self._goes_on = True

    def poll(self, max_records: int, timeout: float) -> list[Chunk]:
        """See `Consumer.poll`. What is archived comes by row groups, however few records are asked for."""
        while self._reading:
            at = next(iter(self._reading))
            chunk = next(self._reading[at], None)
            if chunk is None:
                del self._reading[at]
                continue
            self._reading[at] = self._reading.pop(at)  # the next poll gives another partition's
            chunk.start, self._standing[at] = self._standing[at], chunk.next_offset
            return [chunk]
        if not self._goes_on:
            self._go_on()
        return self._kafka.poll(max_records, timeout)

    def positions(self) -> Position:
        """See `Consumer.positions`."""
        if not self._goes_on:
            return Position(dict(self._standing))
        return Position({**self._standing, **self._kafka.positions().offsets})

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See `Consumer.seek`."""
        self.assign({**self.positions().offsets, partition: offset})

    def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        """See `Consumer.subscribe`: groups read what is live."""
        self._kafka.subscribe(topics, listener)
        self._goes_on = True

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        self._kafka.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        self._kafka.resume(partitions)

    def paused(self) -> set[TopicPartition]:
        """See `Consumer.paused`."""
        return self._kafka.paused()

    def commit_hint(self, position: Position) -> None:
        """See `Consumer.commit_hint`."""
        self._kafka.commit_hint(position)

    @property
    def last_error(self) -> str | None:
        """See `Consumer.last_error`."""
        return self._kafka.last_error

    def close(self) -> None:
        """See `Consumer.close`."""
        self._reading = {}
        self._kafka.close()
