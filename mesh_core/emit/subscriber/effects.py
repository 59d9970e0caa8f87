"""What a record does in a subscriber's database: its handler's effects, or a dead letter; and decisions on these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from mesh_core.contracts import Refusal, Unknown
from mesh_core.emit.subscriber import letters, store
from mesh_core.emit.subscriber.events import EventRefused, Reading, Received
from mesh_core.emit.subscriber.letters import Letter
from mesh_core.log import Chunk
from mesh_core.store.faults import fault_of
from mesh_core.telemetry import bound

REFUSING = (psycopg.Error, EventRefused, UnicodeEncodeError)
"""What may be a refusal: see `refusal`."""
AnyHandler = Callable[[Received[Any], psycopg.Connection[Any]], None]


class Effects:
    """The effects of a subscriber of some name, by its handlers."""

    def __init__(self, name: str, handlers: Mapping[str, AnyHandler], reading: Reading) -> None:
        self.name, self._handlers, self._reading = name, handlers, reading

    @property
    def topics(self) -> list[str]:
        """Where the events of the handlers are, sorted."""
        return self._reading.topics

    def of(self, connection: psycopg.Connection[Any], chunk: Chunk, first: int, end: int) -> None:
        """Give records first..end of a chunk their effects. Raises what `refusal` judges."""
        topic = chunk.partition.topic
        keys = list({key for key in chunk.keys[first:end] if key is not None})
        held = letters.blocked(connection, self.name, topic, keys)
        known = dict(store.sequences(connection, self.name, topic, keys))
        new: dict[bytes, int] = {}
        headers = chunk.headers
        for n in range(first, end):
            key = chunk.keys[n]
            of = headers[n] if headers else ()
            found = self._reading.read(chunk.partition, chunk.offsets[n], key, chunk.values[n], of)
            if isinstance(found, Unknown):
                continue
            if key is not None and key in held:
                letters.keep(connection, self.name, letter_of(chunk, n, None, None))
            elif isinstance(found, Refusal):
                letters.keep(connection, self.name, letter_of(chunk, n, found.reason, found.detail))
                if key is not None:
                    held.add(key)
            elif self._is_new(found, key, known):
                self._handle(found, connection)
                if key is not None and found.sequence is not None:
                    known[key] = new[key] = found.sequence
        if new:
            store.keep_sequences(connection, self.name, topic, new)

    def _is_new(self, found: Received[Any], key: bytes | None, known: Mapping[bytes, int]) -> bool:
        return found.sequence is None or key is None or found.sequence > known.get(key, -(2**63))

    def _handle(self, found: Received[Any], connection: psycopg.Connection[Any]) -> None:
        """Call the handler; what it publishes is caused by the event."""
        with bound(
            correlation_id=found.correlation_id or found.id,
            causation_id=found.id,
            workflow_id=None if found.workflow_id is None else str(found.workflow_id),
            tenant_id=found.tenant_id,
            traceparent=found.traceparent,
        ):
            self._handlers[found.event.type](found, connection)

    def decide(self, connection: psycopg.Connection[Any], letter: Letter, discard: bool) -> bool:
        """Handle a letter anew, or forget it, then what is parked behind it, each in a transaction of its own."""
        topic = letter.partition.topic
        while True:
            with connection.transaction():
                store.lock(connection, self.name, letter.partition)
                behind = letters.kept(connection, self.name, topic, letter.key) if letter.key else [letter]
                if not behind or behind[0].offset != letter.offset:
                    return False
                if not letters.forget(connection, self.name, letter):
                    return False
                if not discard and not self._retried(connection, letter):
                    return False
            discard = False
            if len(behind) < 2:
                return True
            letter = behind[1]

    def _retried(self, connection: psycopg.Connection[Any], letter: Letter) -> bool:
        found = self._reading.read(letter.partition, letter.offset, letter.key, letter.value, letter.headers)
        if isinstance(found, Unknown):
            return True
        if isinstance(found, Refusal):
            reason, detail = str(found.reason), found.detail
        else:
            topic, keys = letter.partition.topic, [letter.key] if letter.key else []
            try:
                with connection.transaction():
                    if self._is_new(found, letter.key, store.sequences(connection, self.name, topic, keys)):
                        self._handle(found, connection)
                        if letter.key and found.sequence is not None:
                            store.keep_sequences(connection, self.name, topic, {letter.key: found.sequence})
                return True
            except REFUSING as error:
                reason, detail = refusal(error)
        letters.keep(
            connection,
            self.name,
            Letter(letter.partition, letter.offset, letter.key, letter.value, letter.headers, reason, detail),
        )
        return False


def refusal(error: Exception) -> tuple[str, str]:
    """Reason and detail of a record that is refused with this error. Raises it, where it is no refusal."""
    if isinstance(error, EventRefused):
        reason = "refused_by_handler"
    elif fault_of(error) == "data":
        reason = "refused_by_postgres"
    else:
        raise error
    return reason, str(error).split("\n")[0]


def letter_of(chunk: Chunk, n: int, reason: str | None, detail: str | None) -> Letter:
    """A record as it is kept; without a reason it is parked."""
    headers = chunk.headers
    return Letter(
        chunk.partition,
        chunk.offsets[n],
        chunk.keys[n],
        chunk.values[n],
        headers[n] if headers else (),
        reason,
        detail,
    )
