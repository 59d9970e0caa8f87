"""What an archive of a topic has: a JSON document beside its files, written after them, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from mesh_core.log.archive.errors import ArchiveDamaged
from mesh_core.log.interface import TopicFacts

NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class File:
    """Records of one partition from `first_offset` to before `next_offset`, what is never shown included."""

    name: str
    partition: int
    first_offset: int
    next_offset: int
    records: int
    bytes: int
    sha256: str
    latest: int | None
    """The newest timestamp of a record, in milliseconds since 1970."""


@dataclass(frozen=True)
class Manifest:
    """The files of a topic, of each partition in order and without gaps; `selection` is None where they have all records."""

    topic: str
    topic_id: str
    partitions: int
    selection: Mapping[str, Any] | None = None
    files: tuple[File, ...] = field(default=())

    @property
    def whole(self) -> bool:
        """Whether it has every record of its ranges, so that it can stand for the topic."""
        return self.selection is None

    def of(self, partition: int) -> list[File]:
        """The files of a partition, in order."""
        return [file for file in self.files if file.partition == partition]

    def range_of(self, partition: int) -> tuple[int, int] | None:
        """The first offset of a partition, and the one after the last; None where it has none."""
        files = self.of(partition)
        return (files[0].first_offset, files[-1].next_offset) if files else None

    def is_of(self, facts: TopicFacts) -> bool:
        """Whether this is an archive of that topic, not of one of the same name before it."""
        return (self.topic_id, self.partitions) == (facts.topic_id, facts.partitions)

    def with_file(self, file: File) -> Manifest:
        """With one file more."""
        return replace(self, files=(*self.files, file))

    def write(self, folder: Path) -> None:
        """Take the place of the manifest before, at once."""
        text = json.dumps({"format": FORMAT, "whole": self.whole, **asdict(self)}, indent=1)
        part = folder / f".{NAME}.part"
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, folder / NAME)
        sync_folder(folder)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The manifest of a folder, None where there is none. Raises ArchiveDamaged."""
        path = folder / NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from None
        try:
            if data["format"] != FORMAT:
                raise damaged(path, f"its format is {data['format']!r}, not {FORMAT}")
            found = cls(
                data["topic"],
                data["topic_id"],
                data["partitions"],
                data["selection"],
                tuple(File(**file) for file in data["files"]),
            )
        except (KeyError, TypeError) as error:
            raise damaged(path, f"it has not what it should: {error}") from None
        for number in range(found.partitions):
            files = found.of(number)
            for before, after in pairwise(files):
                if before.next_offset != after.first_offset:
                    raise damaged(path, f"{after.name} does not begin where {before.name} ends")
        return found


def damaged(path: Path, why: str) -> ArchiveDamaged:
    """The error of a file that is not as it should be."""
    return ArchiveDamaged(
        f"{path} cannot be used: {why}.",
        remedy="Restore it from a copy; or export the topic anew, if Kafka still has all of it.",
    )


def verify(folder: Path) -> list[ArchiveDamaged]:
    """What is amiss with the files of an archive's topic, each read whole. Raises ArchiveDamaged for its manifest."""
    manifest = Manifest.read(folder)
    if manifest is None:
        raise damaged(folder / NAME, "it is not there")
    found = []
    for file in manifest.files:
        path = folder / file.name
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            found.append(damaged(path, error.strerror or str(error)))
            continue
        if digest != file.sha256:
            found.append(damaged(path, "its contents have changed since it was written"))
    return found


def sync_folder(folder: Path) -> None:
    """See to it that what was renamed in a folder outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
