"""Writes a topic to Parquet: all of it, from where the archive ends; or what is chosen of it, which stands for nothing."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mesh_core.errors import UsageError
from mesh_core.extras import arrow
from mesh_core.log.archive.errors import ArchiveRefused
from mesh_core.log.archive.manifest import NAME, File, Manifest, damaged, sync_folder
from mesh_core.log.archive.writing import GROUP_RECORDS, Writer
from mesh_core.log.errors import LogUnavailable
from mesh_core.log.interface import Chunk, Consumer, Driver, TopicFacts
from mesh_core.log.moment import milliseconds
from mesh_core.log.position import Position, TopicPartition
from mesh_core.stack.errors import StackBusy
from mesh_core.stack.locks import exclusive

RECORDS, BYTES = 500_000, 256 * 2**20
"""Records, or bytes of keys and values, from which on a file is closed and another one begun."""
STALL_SECONDS = 30.0
TELL_SECONDS = 1.0
_OURS = re.compile(r"\d{20}-\d{20}\.parquet|\.\d{20}\.part")
Moment = Position | datetime | None


@dataclass(frozen=True)
class Selection:
    """What is chosen of a topic: from one moment to another, of some types (`*` for any part), of a workflow."""

    begin: Moment = None
    end: Moment = None
    takes: Callable[[Mapping[str, str]], bool] | None = None
    said: Mapping[str, Any] | None = None
    """How the choice was asked for; None where there is none."""

    @property
    def whole(self) -> bool:
        """Whether nothing is left out, so that what is written can stand for the topic."""
        return self.said is None


WHOLE = Selection()


@dataclass
class Exported:
    """What an export wrote of a topic, and what its folder has of it then."""

    topic: str
    records: int = 0
    files: int = 0
    bytes: int = 0
    position: Position = field(default_factory=Position)
    """Where what the folder has ends."""
    lacking: Position = field(default_factory=Position)
    """Where it begins, of partitions whose log had lost its beginning before: what comes before is in neither."""


def export_topic(
    driver: Driver,
    facts: TopicFacts,
    root: Path,
    selection: Selection = WHOLE,
    progress: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write what the topic has beyond what its folder in `root` has, to the end of the log as it is now.

    Files are there whole or not at all, and count once the manifest names them; what a killed export left is removed.
    Raises ArchiveRefused where what would be written does not go on from what is there, ArchiveDamaged, LogUnavailable.
    """
    arrow()
    folder = root / facts.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / ".lock", timeout_seconds=0):
            return _Export(driver, facts, folder, selection, progress).run()
    except StackBusy as error:
        raise ArchiveRefused(
            f"Another export writes to {folder}.", remedy="Wait for it, or end it."
        ) from error
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be written: {error.strerror}.") from error


@dataclass
class _Export:
    driver: Driver
    facts: TopicFacts
    folder: Path
    selection: Selection
    progress: Callable[[str], None]
    passed: int = 0
    """Offsets that are behind it; `total` are to be."""
    total: int = 0
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0

    def run(self) -> Exported:
        manifest = self._manifest()
        done = Exported(self.facts.name)
        partitions = [TopicPartition(self.facts.name, n) for n in range(self.facts.partitions)]
        with self.driver.consumer(None) as consumer:
            begins, ends = self._bounds(consumer, partitions, manifest)
            self._clear(
                manifest
            )  # now that nothing is refused: what a manifest of before does not name may be all there is
            manifest.write(self.folder)
            self.total = sum(ends[at] - begins[at] for at in partitions)
            for at in partitions:
                for file in self._files(consumer, at, begins[at], ends[at]):
                    manifest = manifest.with_file(file)
                    if manifest.whole:
                        manifest.write(self.folder)
                    done.records += file.records
                    done.files += 1
                    done.bytes += file.bytes
        if not manifest.whole:  # half of a selection would be taken for all of it
            manifest.write(self.folder)
        ranges = {at: manifest.range_of(at.partition) for at in partitions}
        done.position = Position({at: found[1] if found else begins[at] for at, found in ranges.items()})
        if self.selection.whole:
            starts = {at: found[0] if found else begins[at] for at, found in ranges.items()}
            done.lacking = Position({at: offset for at, offset in starts.items() if offset > 0})
        return done

    def _manifest(self) -> Manifest:
        """What is there of the topic. Raises ArchiveRefused, ArchiveDamaged."""
        said = None if self.selection.whole else dict(self.selection.said or {})
        new = Manifest(self.facts.name, self.facts.topic_id, self.facts.partitions, said)
        found = Manifest.read(self.folder)
        if found is None:
            if any(self.folder.glob("partition=*/*.parquet")):
                raise damaged(self.folder / NAME, "it is not there, though files of an archive are")
            return new
        if not (found.whole or self.selection.whole or found.files):
            return new  # a selection that was killed, or that found nothing
        if not (found.whole and self.selection.whole):
            raise ArchiveRefused(
                f"{self.folder} has been written to.",
                remedy="A selection needs a folder of its own, and is never gone on with: name another.",
            )
        if not found.is_of(self.facts):
            raise ArchiveRefused(
                f"{self.folder} is of another topic of that name: of id {found.topic_id} and {found.partitions} "
                f"partitions, not {self.facts.topic_id} and {self.facts.partitions}.",
                remedy="Keep it, and export to another folder.",
            )
        return found

    def _clear(self, manifest: Manifest) -> None:
        known = {file.name for file in manifest.files}
        for path in self.folder.glob("partition=*/*"):
            if f"{path.parent.name}/{path.name}" not in known and _OURS.fullmatch(path.name):
                path.unlink()

    def _bounds(
        self, consumer: Consumer, partitions: list[TopicPartition], manifest: Manifest
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        first, last = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        begins, ends = dict(first), dict(last)
        for at in partitions:
            if (there := manifest.range_of(at.partition)) is not None:
                if first[at] > there[1]:
                    raise ArchiveRefused(
                        f"The log of {at} starts at {first[at]}, but the archive ends at {there[1]}: what was between is gone.",
                        remedy="Keep the archive, and export to another folder; export before a topic's retention ends.",
                    )
                if last[at] < there[1]:
                    raise ArchiveRefused(
                        f"The log of {at} ends at {last[at]}, but the archive at {there[1]}: Kafka has lost records, and what "
                        "comes takes their offsets.",
                        remedy="Keep the archive, and export to another folder.",
                    )
                begins[at] = there[1]
        if not self.selection.whole:
            begins = self._moment(consumer, self.selection.begin, partitions, first, last, first)
            ends = self._moment(consumer, self.selection.end, partitions, first, last, last)
        return begins, {at: max(begins[at], ends[at]) for at in partitions}

    @staticmethod
    def _moment(
        consumer: Consumer,
        moment: Moment,
        partitions: list[TopicPartition],
        first: Mapping[TopicPartition, int],
        last: Mapping[TopicPartition, int],
        without: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Offsets of a moment, within what the log has; `without` where there is none."""
        if moment is None:
            return dict(without)
        if isinstance(moment, Position):
            found = {at: moment.offsets.get(at, 0) for at in partitions}
        else:
            found = consumer.offsets_for_time(partitions, milliseconds(moment))
        return {at: min(max(found[at], first[at]), last[at]) for at in partitions}

    # ---- files

    def _files(self, consumer: Consumer, at: TopicPartition, begin: int, end: int) -> Iterator[File]:
        if begin < end:
            consumer.assign({at: begin})
        standing = begin
        while standing < end:
            first = standing
            with self._writer(at, first) as (writer, part):
                while standing < end and writer.records < RECORDS and writer.size < BYTES:
                    for chunk in self._poll(consumer, at, standing):
                        writer.add(chunk, end)
                        before, standing = standing, min(chunk.next_offset, end)
                        self._tell(standing - before)
                writer.end()
                file = self._keep(at, first, standing, writer, part)
            yield file

    def _poll(self, consumer: Consumer, at: TopicPartition, standing: int) -> list[Chunk]:
        deadline = time.monotonic() + STALL_SECONDS
        while time.monotonic() < deadline:
            if chunks := [chunk for chunk in consumer.poll(GROUP_RECORDS, 1.0) if chunk.partition == at]:
                return chunks
        raise LogUnavailable(
            f"The log of {at} gave nothing for {STALL_SECONDS:g} s, though records from {standing} on are missing.",
            remedy="See that Kafka is well, then export again: it goes on where it was.",
        )

    def _tell(self, more: int) -> None:
        self.passed += more
        now = time.monotonic()
        if now - self.told >= TELL_SECONDS or self.passed == self.total:
            self.told = now
            rate = self.passed / max(now - self.began, 1e-9)
            self.progress(f"{self.facts.name}: {self.passed:,} of {self.total:,} events, {rate:,.0f}/s")

    @contextmanager
    def _writer(self, at: TopicPartition, first: int) -> Iterator[tuple[Writer, Path]]:
        folder = self.folder / f"partition={at.partition}"
        folder.mkdir(exist_ok=True)
        part = folder / f".{first:020}.part"
        writer = Writer(part, self.selection.takes)
        try:
            yield writer, part
        finally:
            try:
                writer.close()
            finally:  # a full disk is no reason to leave half a file on it
                part.unlink(missing_ok=True)

    def _keep(self, at: TopicPartition, first: int, end: int, writer: Writer, part: Path) -> File:
        """Give a file that is whole its name, once it would outlive a power cut."""
        target = part.with_name(f"{first:020}-{end:020}.parquet")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(part, target)
        sync_folder(target.parent)
        name, size = f"{target.parent.name}/{target.name}", target.stat().st_size
        return File(name, at.partition, first, end, writer.records, size, digest, writer.latest)
