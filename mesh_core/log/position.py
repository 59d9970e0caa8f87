"""Where in the log something stands: one next offset per topic partition, never one global number."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from mesh_core.log.errors import PositionError

MAX_HEADER = 16_384
"""The longest position, in characters, that a header may carry."""

_MAX_OFFSET = 2**63 - 1
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


@dataclass(frozen=True, order=True, slots=True)
class TopicPartition:
    """One partition of one topic: the unit in which the log keeps an order."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset of each topic partition; a partition that is not named stands at 0.

    >>> Position.from_json({"sales.events": {"0": 42}}).to_header()
    '{"sales.events":{"0":42}}'
    """

    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, dict[str, int]]:
        """As plain data, topics and partitions in order: `{"sales.events": {"0": 42}}`."""
        topics: dict[str, dict[str, int]] = {}
        for part in sorted(self.offsets):
            topics.setdefault(part.topic, {})[str(part.partition)] = self.offsets[part]
        return topics

    @classmethod
    def from_json(cls, obj: object) -> Position:
        """Read what `to_json` wrote.

        Raises PositionError, naming what is wrong, if `obj` has another shape.
        """
        if not isinstance(obj, Mapping):
            raise PositionError("A position is an object of topics.")
        offsets: dict[TopicPartition, int] = {}
        for topic, partitions in obj.items():
            if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
                raise PositionError(f"{_shown(topic)} is not the name of a topic.")
            if not isinstance(partitions, Mapping):
                raise PositionError(f"The position of topic {topic} is not an object of partitions.")
            for number, offset in partitions.items():
                if not isinstance(number, str) or not _NUMBER.fullmatch(number) or int(number) >= 2**31:
                    raise PositionError(f"{_shown(number)} is not a partition number of topic {topic}.")
                if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset <= _MAX_OFFSET:
                    raise PositionError(f"{_shown(offset)} is not an offset of {topic}[{number}].")
                offsets[TopicPartition(topic, int(number))] = offset
        return cls(offsets)

    def to_header(self) -> str:
        """As compact JSON, for the headers `Mesh-Position` and `Mesh-Min-Position`."""
        return msgspec.json.encode(self.to_json()).decode()

    @classmethod
    def from_header(cls, text: str) -> Position:
        """Read what `to_header` wrote. Raises PositionError if it is not that."""
        if len(text) > MAX_HEADER:
            raise PositionError(f"A position in a header has at most {MAX_HEADER} characters.")
        try:
            return cls.from_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise PositionError("The position is not valid JSON.") from error

    def reaches(self, other: Position) -> bool:
        """Whether all that lies below `other` also lies below this position."""
        return all(self.offsets.get(part, 0) >= offset for part, offset in other.offsets.items())

    def merge(self, other: Position) -> Position:
        """The least position that reaches both: the larger offset of each partition."""
        merged = dict(self.offsets)
        for part, offset in other.offsets.items():
            merged[part] = max(offset, merged.get(part, 0))
        return Position(merged)

    def restricted_to(self, topics: Collection[str]) -> Position:
        """Only the partitions of these topics."""
        return Position({part: offset for part, offset in self.offsets.items() if part.topic in topics})

    def minus(self, other: Position) -> dict[TopicPartition, int]:
        """How many offsets `other` is behind this position, per partition of this one (0 if it is not)."""
        return {part: max(0, offset - other.offsets.get(part, 0)) for part, offset in self.offsets.items()}

    @classmethod
    def after(cls, records: Iterable[tuple[TopicPartition, int]]) -> Position:
        """The least position that lies after each of these (partition, offset) records."""
        offsets: dict[TopicPartition, int] = {}
        for part, offset in records:
            offsets[part] = max(offset + 1, offsets.get(part, 0))
        return cls(offsets)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
