"""Publishes what is in outboxes, each in a thread of its own: in order per aggregate, at least once, none left out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from dataclasses import dataclass, field, replace

import psycopg

from mesh_core.emit.relay.address import OutboxAddress
from mesh_core.emit.relay.records import Records
from mesh_core.emit.relay.store import FenceRaised, NoOutbox, Outbox, Row
from mesh_core.errors import MeshError
from mesh_core.log import (
    EnvelopeError,
    KafkaConfig,
    MessageTooLarge,
    Outgoing,
    Producer,
    SentTogether,
    connect,
)
from mesh_core.telemetry import get_logger, metrics

BATCH = 5_000
"""Rows that are taken at once."""
_RESENT = 500
_IN_FLIGHT = 2
"""Batches that are sent and not acknowledged, while the next is taken."""
_POLL = 1.0
_REPORT = 5.0
_SILENCE = 5.0
"""Seconds without an acknowledgement after which it is said that Kafka is waited for."""
_NEVER = 20 * 24 * 3600.0
"""Seconds. A record that was given up on could arrive after those behind it; so none is, but with the whole process."""
log = get_logger(__name__)


class Relay:
    """Relays some outboxes to one Kafka until it is stopped."""

    def __init__(
        self, outboxes: Sequence[OutboxAddress], kafka: KafkaConfig, *, retention_seconds: float
    ) -> None:
        """Rows stay in their table for `retention_seconds` after they are published. Connects to nothing yet."""
        self._kafka = replace(kafka, delivery_timeout=_NEVER, client_id="flexmesh-relay")
        self._stopping = threading.Event()
        self._outboxes = [
            _OutboxRelay(each, self._kafka, retention_seconds, self._stopping) for each in outboxes
        ]

    def run(self, *, until_empty: bool = False) -> None:
        """Until `stop`, or with `until_empty` until nothing waits that can be published.

        Raises what ended the relay of an outbox that neither waiting nor another relay mends.
        """
        threads = [
            threading.Thread(target=each.run, args=(until_empty,), name=f"relay {each.service}")
            for each in self._outboxes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in self._outboxes:
            if each.failure is not None:
                raise each.failure

    def stop(self) -> None:
        """Let what is sent be acknowledged, a few seconds at most, and end."""
        self._stopping.set()

    def problems(self) -> list[str]:
        """Why it does not publish just now, a sentence for each outbox that is waited for."""
        return [f"{each.service}: {each.waiting_for}" for each in self._outboxes if each.waiting_for]


class _OutboxRelay:
    def __init__(
        self, address: OutboxAddress, kafka: KafkaConfig, retention_seconds: float, stopping: threading.Event
    ) -> None:
        self.service = address.service
        self.failure: BaseException | None = None
        self.waiting_for: str | None = "it has not begun"
        self._address, self._kafka, self._retention, self._stopping = (
            address,
            kafka,
            retention_seconds,
            stopping,
        )
        self._log = log.bind(outbox=address.service)

    def run(self, until_empty: bool) -> None:
        """In a thread: again after whatever passes. Once one fails for good, all end."""
        try:
            self._run(until_empty)
        except BaseException as error:
            self.failure = error
            self._stopping.set()

    def _run(self, until_empty: bool) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            try:
                with closing(Outbox(self._address)) as outbox:
                    if not self._locked(outbox):
                        return
                    with connect(self._kafka).producer() as producer:
                        pause, self.waiting_for = 0.1, None
                        self._log.info("relaying", table=self._address.table)
                        session = _Session(
                            self._address, outbox, producer, self._retention, self._stopping, self._waits
                        )
                        session.run(until_empty)
                    if until_empty:
                        return
            except FenceRaised:
                self._log.warning("another relay has begun")
            except (psycopg.OperationalError, psycopg.InterfaceError, NoOutbox, MeshError) as error:
                self.waiting_for = str(error).split("\n")[0]
                self._log.warning("waiting", cause=self.waiting_for, seconds=round(pause, 2))
                metrics.RELAY_RETRIES.labels(self.service).inc()
                self._stopping.wait(pause)
                pause = min(5.0, 2 * pause)

    def _waits(self, cause: str | None) -> None:
        """What it waits for just now, if for anything."""
        if cause is not None and self.waiting_for is None:
            self._log.warning("waiting", cause=cause)
        elif cause is None and self.waiting_for is not None:
            self._log.info("going on")
        self.waiting_for = cause

    def _locked(self, outbox: Outbox) -> bool:
        """Wait until no other relay works on this outbox; False if it was told to stop before."""
        told = False
        while not outbox.try_lock():
            if not told:
                self._log.info("another relay works on this outbox; standing by")
                told, self.waiting_for = True, None
            if self._stopping.wait(_POLL):
                return False
        return True


@dataclass(slots=True)
class _Batch:
    """What was done with rows up to a sequence: those sent, those refused, and those held behind them."""

    sequence: int
    rows: list[Row] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    aggregates: set[tuple[str, str]] = field(default_factory=set)
    sent: SentTogether = field(init=False)


class _Session:
    """The relay of an outbox while it has its connection, its lock and its producer."""

    def __init__(
        self,
        address: OutboxAddress,
        outbox: Outbox,
        producer: Producer,
        retention_seconds: float,
        stopping: threading.Event,
        waits: Callable[[str | None], None],
    ) -> None:
        self._address, self._outbox, self._producer = address, outbox, producer
        self._retention, self._stopping, self._waits = retention_seconds, stopping, waits
        self._records = Records(address.service)
        self._sent: deque[tuple[list[Row], int, SentTogether]] = deque()
        self._sending: Future[_Batch] | None = None
        self._published = 0
        self._next_report = 0.0
        self._log = log.bind(outbox=address.service)

    def run(self, until_empty: bool) -> None:
        """Until it is stopped. Raises MeshError and psycopg's errors: then begin anew, with another producer."""
        self._published = after = self._outbox.begin()
        # What is taken is made into records and sent while the next is taken: that is a third more.
        with ThreadPoolExecutor(1, f"sending {self._address.service}") as self._thread:
            while rows := self._outbox.taken(after, _RESENT):
                after = rows[-1].sequence
                self._send(rows)
                self._settle(_IN_FLIGHT)
            self._send([])
            while not self._stopping.is_set():
                self._report()
                cleaned = self._outbox.clean(self._published, self._retention)
                rows = self._outbox.take(BATCH, self._published)
                self._send(rows)
                if rows:
                    self._settle(_IN_FLIGHT)
                elif self._sent:
                    self._settle(0)
                    self._outbox.advance(self._published)
                elif until_empty:
                    break
                elif not cleaned:
                    self._outbox.wait(_POLL)
            self._send([])
        self._settle(0)
        self._outbox.advance(self._published)

    def _send(self, rows: list[Row]) -> None:
        """Begin to send the rows, once those before them are handed over.

        What of those can never be published is refused, and what is behind it held, also of these.
        """
        if self._sending is not None:
            before, self._sending = self._sending.result(), None
            self._sent.append((before.rows, before.sequence, before.sent))
            if before.refused:
                behind = [row for row in rows if row.aggregate in before.aggregates]
                self._refuse(before.refused, [*before.held, *(row.id for row in behind)])
                if behind:
                    rows = [row for row in rows if row.aggregate not in before.aggregates]
        if rows:
            self._sending = self._thread.submit(self._hand_over, rows)

    def _hand_over(self, rows: list[Row]) -> _Batch:
        """In a thread: the rows that can be published, with the producer."""
        batch = _Batch(rows[-1].sequence)
        records: list[Outgoing] = []
        for row in rows:
            if batch.aggregates and row.aggregate in batch.aggregates:
                batch.held.append(row.id)
                continue
            try:
                records.append(self._records.record(row))
                batch.rows.append(row)
            except (EnvelopeError, MessageTooLarge) as error:
                batch.refused.append((row.id, str(error)))
                batch.aggregates.add(row.aggregate)
        batch.sent = self._producer.send_all(records)
        return batch

    def _settle(self, most: int) -> None:
        """Wait until at most so many batches are not acknowledged. Raises why one was not."""
        while len(self._sent) > most:
            rows, sequence, sent = self._sent[0]
            self._acknowledged(sent)
            for row, result in zip(rows, sent.results, strict=True):
                if isinstance(result, MessageTooLarge):  # by the broker, which takes less than we send
                    self._refuse([(row.id, str(result))], [])
                elif isinstance(result, Exception):
                    raise result
            self._sent.popleft()
            self._published = sequence
            metrics.RELAY_PUBLISHED.labels(self._address.service).inc(len(rows))

    def _acknowledged(self, sent: SentTogether) -> None:
        given_up, began = None, time.monotonic()
        while True:
            try:
                sent.done.result(0.5)
                self._waits(None)
                return
            except FutureTimeout:
                if (silence := time.monotonic() - began) > _SILENCE:
                    self._waits(f"Kafka has not acknowledged what was sent {silence:.0f} s ago.")
                if self._stopping.is_set():
                    given_up = given_up or time.monotonic() + 5.0
                    if time.monotonic() > given_up:
                        raise MeshError(
                            "Kafka has not acknowledged what was sent; the next relay sends it again."
                        ) from None

    def _refuse(self, refused: list[tuple[str, str]], held: list[str]) -> None:
        if not refused:
            return
        self._outbox.refuse(refused, held)
        metrics.RELAY_REFUSED.labels(self._address.service).inc(len(refused))
        for identifier, reason in refused:
            self._log.error(
                "refused",
                id=identifier,
                reason=reason,
                remedy=f"Correct the row of {self._address.table} and set refused to NULL, or delete it; "
                "those of its aggregate wait behind it.",
            )

    def _report(self) -> None:
        if time.monotonic() < self._next_report:
            return
        self._next_report = time.monotonic() + _REPORT
        found = self._outbox.backlog()
        metrics.RELAY_WAITING.labels(self._address.service).set(found.waiting)
        metrics.RELAY_HELD.labels(self._address.service).set(found.refused)
        metrics.RELAY_LAG_SECONDS.labels(self._address.service).set(found.seconds)
