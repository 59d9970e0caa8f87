"""From records to decoded events. Whether one is refused depends on that record alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mesh_core.contracts.decoding import TopicDecoder
from mesh_core.contracts.refusals import Refusal
from mesh_core.log.cloudevents import structured_from_binary
from mesh_core.log.errors import EnvelopeError
from mesh_core.log.interface import Chunk, Headers
from mesh_core.log.position import TopicPartition
from mesh_core.model.entity import EntityModel
from mesh_core.model.event import Contract

HEAD = 100


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A record without a value, of a topic with an entity that takes it as a delete."""

    key: bytes
    sequence: None = None
    workflowid: None = None


class Batch:
    """A chunk and what its records say: an event struct, a Refusal, an Unknown or a Tombstone each.

    `start` is the checkpoint that the chunk continues from; of its records the first `folded` were folded ahead.
    """

    __slots__ = ("_head", "_items", "_read", "chunk", "folded", "start")

    def __init__(self, chunk: Chunk, start: int, read: Callable[[Chunk], list[Any]]) -> None:
        self.chunk, self.start, self.folded = chunk, start, 0
        self._read, self._items, self._head = read, read(chunk), list[Any]()

    def __len__(self) -> int:
        return len(self.chunk.offsets)

    @property
    def partition(self) -> TopicPartition:
        """Whose records these are."""
        return self.chunk.partition

    @property
    def items(self) -> list[Any]:
        """What the records say, one each."""
        if len(self._items) < len(self):  # they were let go
            self._items = self._read(self.chunk)
        return self._items

    @property
    def head(self) -> list[Any]:
        """What the first HEAD records say."""
        return self._head or self._items[:HEAD]

    def let_go(self) -> None:
        """Forget what the records say, since it is folded: the half of what they take. Asked again, they are read again."""
        self._head, self._items = self.head, []

    def extend(self, later: Batch) -> None:
        """Take in the batch that comes after this one."""
        mine, more = self.chunk, later.chunk
        if mine.headers or more.headers:
            mine.headers = [
                *(mine.headers or [()] * len(mine.offsets)),
                *(more.headers or [()] * len(more.offsets)),
            ]
        self._head = self.head
        self._items = [*self._items, *later._items] if self._items and later._items else []
        if self.folded == len(self):
            self.folded += later.folded
        for column in ("keys", "values", "offsets", "timestamps"):
            getattr(mine, column).extend(getattr(more, column))
        mine.next_offset = more.next_offset

    def part(self, first: int, end: int) -> Batch:
        """Records first..end of this batch, as a batch of its own."""
        chunk = self.chunk
        last = end == len(chunk.offsets)
        start = self.start if first == 0 else chunk.offsets[first - 1] + 1
        cut = Chunk(
            chunk.partition,
            chunk.keys[first:end],
            chunk.values[first:end],
            chunk.offsets[first:end],
            chunk.timestamps[first:end],
            chunk.headers[first:end],
            chunk.next_offset if last else chunk.offsets[end - 1] + 1,
            start,
        )
        items = self.items[first:end]
        return Batch(cut, start, lambda _: items)


class Intake:
    """Decodes the records of all topics by the contracts that the catalog knows."""

    def __init__(self, entities: Iterable[EntityModel], contracts: Iterable[Contract]) -> None:
        by_topic: dict[str, dict[str, Contract]] = {}
        self.tombstones: set[str] = set()
        for contract in contracts:
            by_topic.setdefault(contract.topic, {})[contract.type] = contract
        for entity in entities:
            if entity.tombstones:
                self.tombstones.add(entity.topic)
            for fold in entity.folds:
                by_topic.setdefault(entity.topic, {})[fold.contract.type] = fold.contract
        self.decoders = {topic: TopicDecoder(found.values()) for topic, found in by_topic.items()}

    def struct_types(self, topic: str) -> dict[type, str]:
        """Event types by the struct that the topic's decoder makes of them."""
        return {struct: name for name, struct in self.decoders[topic].struct_of.items()}

    def read(self, topic: str, value: bytes | None, headers: Headers = (), key: bytes | None = None) -> Any:
        """What one record says."""
        if headers and value is not None:
            try:
                value = structured_value(headers, value)
            except EnvelopeError as error:
                return Refusal("not_a_cloudevent", str(error))
        if value is None and topic in self.tombstones:
            return Tombstone(key or b"")
        return self.decoders[topic].read(value)

    def batch(self, chunk: Chunk, start: int) -> Batch:
        """Decode a chunk."""
        return Batch(chunk, start, self._read_all)

    def _read_all(self, chunk: Chunk) -> list[Any]:
        topic = chunk.partition.topic
        values: Sequence[bytes | None] = chunk.values
        binary = any(name == "ce_specversion" for headers in chunk.headers for name, _ in headers)
        if binary or topic in self.tombstones:
            headers = chunk.headers or [()] * len(values)
            columns = zip(values, headers, chunk.keys, strict=True)
            return [self.read(topic, value, of, key) for value, of, key in columns]
        return self.decoders[topic].read_all(values)


def structured_value(headers: Headers, value: bytes) -> bytes:
    """The structured form of a record: a binary-mode CloudEvent has its attributes in headers.

    Raises EnvelopeError where they cannot be read.
    """
    if any(name == "ce_specversion" for name, _ in headers):
        return structured_from_binary(headers, value)
    return value
