"""From records to decoded events. Whether one is refused depends on that record alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh_core.contracts.decoding import TopicDecoder
from mesh_core.contracts.refusals import Refusal, Unknown
from mesh_core.contracts.translating import Foreign, translate
from mesh_core.log.cloudevents import is_binary, structured_from_binary
from mesh_core.log.errors import EnvelopeError
from mesh_core.log.interface import Chunk, Headers
from mesh_core.log.position import TopicPartition
from mesh_core.model.entity import EntityModel
from mesh_core.model.event import Contract

At = tuple[int, int, int]
"""Where a record is in its topic, and when it was written: partition, offset, milliseconds since 1970."""
HEAD = 100
"""Records of a batch whose events are kept when it is let go of, for the links of its span."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A record without a value, of a topic with an entity that takes it as a delete."""

    key: bytes
    sequence: None = None
    workflowid: None = None


@dataclass(slots=True)
class Batch:
    """A chunk and what its records say: an event struct, a Refusal, an Unknown or a Tombstone each.

    Of its records the first `folded` were folded ahead; what they say, and their headers, may have been let go.
    `event_keys` are those of the events, where the records' keys are not.
    """

    chunk: Chunk
    items: list[Any]
    folded: int = 0
    event_keys: list[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.chunk.offsets)

    @property
    def partition(self) -> TopicPartition:
        """Whose records these are."""
        return self.chunk.partition

    @property
    def keys(self) -> list[bytes | None]:
        """The key of each event, as whoever read this batch reads it."""
        return self.chunk.keys if self.event_keys is None else self.event_keys

    def let_go(self) -> None:
        """Forget what the records say, now that it is folded: that is more than half of what they take."""
        self.items[HEAD:] = [None] * len(self.items[HEAD:])
        self.chunk.without_headers()

    def extend(self, later: Batch) -> None:
        """Take in the batch that comes after this one, which may be folded as this one is."""
        if self.folded == len(self):
            self.folded += later.folded
        self.items += later.items
        if self.event_keys is not None:
            self.event_keys += later.keys
        self.chunk.extend(later.chunk)

    def part(self, first: int, end: int) -> Batch:
        """Records first..end of this batch, as a batch of its own."""
        chunk = self.chunk
        last = end == len(chunk.offsets)
        return Batch(
            Chunk(
                chunk.partition,
                chunk.keys[first:end],
                chunk.values[first:end],
                chunk.offsets[first:end],
                chunk.timestamps[first:end],
                chunk.headers[first:end],
                chunk.next_offset if last else chunk.offsets[end - 1] + 1,
                chunk.start if first == 0 else chunk.offsets[first - 1] + 1,
            ),
            self.items[first:end],
            event_keys=None if self.event_keys is None else self.event_keys[first:end],
        )


class Intake:
    """Decodes the records of all topics by the contracts that the catalog knows."""

    def __init__(self, entities: Iterable[EntityModel], contracts: Iterable[Contract]) -> None:
        models = list(entities)
        self.tombstones = {entity.topic for entity in models if entity.tombstones}
        every = [*contracts, *(fold.contract for entity in models for fold in entity.folds)]
        # Of a topic's contracts the last one says how its records are read: one that was left of before does not.
        way = {contract.topic: contract.foreign for contract in every}
        by_topic: dict[str, dict[str, Contract]] = {}
        for contract in every:
            if contract.foreign == way[contract.topic]:
                by_topic.setdefault(contract.topic, {})[contract.type] = contract
        self.decoders = {topic: TopicDecoder(found.values()) for topic, found in by_topic.items()}
        self.foreign = {topic: foreign for topic, foreign in way.items() if foreign is not None}

    def struct_types(self, topic: str) -> dict[type, str]:
        """Event types by the struct that the topic's decoder makes of them."""
        return {struct: name for name, struct in self.decoders[topic].struct_of.items()}

    def read(
        self,
        topic: str,
        value: bytes | None,
        headers: Headers = (),
        key: bytes | None = None,
        at: At | None = None,
    ) -> Any:
        """What one record says: it is in binary mode if its headers say so, and its value is not a whole event.

        Of a foreign topic it has to be known where it is (`at`); else it must be a whole event, as an edit is.
        """
        if at is not None and topic in self.foreign:
            return self._foreign(topic, Foreign(key, value, headers, *at))[1]
        if value is None and topic in self.tombstones:
            return Tombstone(key or b"")
        decoder = self.decoders[topic]
        if value is not None and is_binary(headers) and not decoder.is_event(value):
            try:
                value = structured_from_binary(headers, value)
            except EnvelopeError as error:
                return Refusal("not_a_cloudevent", str(error))
        return decoder.read(value)

    def batch(self, chunk: Chunk) -> Batch:
        """Decode a chunk. It stays as it is, since others may read it in another way."""
        topic = chunk.partition.topic
        if topic in self.foreign:
            return self._foreign_batch(chunk)
        items = None if topic in self.tombstones else self.decoders[topic].read_events(chunk.values)
        if items is None:
            headers = chunk.headers or [()] * len(chunk.values)
            columns = zip(chunk.values, headers, chunk.keys, strict=True)
            items = [self.read(topic, value, of, key) for value, of, key in columns]
        return Batch(chunk, items)

    def _foreign_batch(self, chunk: Chunk) -> Batch:
        headers = chunk.headers or [()] * len(chunk.values)
        columns = zip(chunk.keys, chunk.values, headers, chunk.offsets, chunk.timestamps, strict=True)
        found = [
            self._foreign(
                chunk.partition.topic, Foreign(key, value, of, chunk.partition.partition, offset, timestamp)
            )
            for key, value, of, offset, timestamp in columns
        ]
        return Batch(chunk, [item for _, item in found], event_keys=[key for key, _ in found])

    def _foreign(self, topic: str, record: Foreign) -> tuple[bytes | None, Any]:
        """The key of a foreign record's event, and what that says; a record without an event is of no known type."""
        decoder = self.decoders[topic]
        if record.value is not None and decoder.is_event(record.value):
            return record.key, decoder.read(record.value)
        found = translate(self.foreign[topic], record)
        if found.refusal is not None:
            return found.key, found.refusal
        if found.value is None:
            taken = record.value is None and topic in self.tombstones
            return found.key, Tombstone(found.key or b"") if taken else _nothing(topic)
        return found.key, decoder.read(found.value)


def _nothing(topic: str) -> Unknown:
    time = datetime.fromtimestamp(0, UTC)
    return Unknown(topic, "", "", None, time, None, None, None, None, None, None, None, None, None)


def structured_value(headers: Headers, value: bytes) -> bytes:
    """The structured form of a record: a binary-mode CloudEvent has its attributes in headers.

    Raises EnvelopeError where they cannot be read.
    """
    return structured_from_binary(headers, value) if is_binary(headers) else value
