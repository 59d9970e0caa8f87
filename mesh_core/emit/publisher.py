"""Publishing events from a service.

>>> with Publisher(connect(config), source="/sales") as publisher:  # doctest: +SKIP
...     publisher.publish(OrderPlaced(order_id=1, ...), key="1", workflow_id=workflow)
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from mesh_core.emit.envelope import check_is_event, envelope_of, record_of
from mesh_core.errors import MeshError
from mesh_core.log import Delivered, Driver, Position, Producer, TopicPartition
from mesh_core.model import Event
from mesh_core.telemetry import metrics


class Publisher:
    """Sends events to the topic of the service that their type names, in order per key.

    A with-block flushes at its end, so that leaving it without an error means: all of it is in the log.
    May be shared by threads.
    """

    def __init__(
        self, log: Driver | Producer, source: str, *, timeout: float = 30.0, binary: bool = False
    ) -> None:
        """`source` is the CloudEvents source, a URI reference such as `/sales`; `timeout` is in seconds.

        With `binary`, attributes are headers and the value is the data alone, for readers that take no other mode.
        A producer that is given stays open at `close`; one made from a driver is closed.
        """
        self._producer: Producer = log if isinstance(log, Producer) else log.producer()
        self._owns = not isinstance(log, Producer)
        self._source = source
        self._timeout = timeout
        self._binary = binary
        self._lock = threading.Lock()
        self._sent: deque[Future[Delivered]] = deque()
        self._after: dict[TopicPartition, int] = {}
        self._failure: BaseException | None = None

    def publish(
        self,
        event: Event,
        *,
        key: str | None = None,
        workflow_id: UUID | str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        tenant_id: str | None = None,
        time: datetime | None = None,
        sequence: int | None = None,
        id: str | UUID | None = None,  # noqa: A002 - the name that CloudEvents gives it
    ) -> Future[Delivered]:
        """Send a typed event; the future tells where in the log it is.

        `key` is the entity's key as text, needed unless the event class has `key_fields`. `time` is when it
        happened (default now), `correlation_id` what it belongs to (default its own id), `causation_id` the
        id of the event that led to it, `sequence` rises per key. The current trace goes along; and so do the ids
        that `mesh_core.emit.bound` bound, where none are given here.
        Raises UsageError for what is no Event, EnvelopeError or MessageTooLarge; the future fails with
        DeliveryTimeout, DeliveryFailed or TopicMissing.
        """
        check_is_event(event, "A CloudEvent that is ready, as a dict, is for publish_envelope.")
        return self.publish_envelope(
            envelope_of(
                event,
                source=self._source,
                key=key,
                workflow_id=workflow_id,
                correlation_id=correlation_id,
                causation_id=causation_id,
                tenant_id=tenant_id,
                time=time,
                sequence=sequence,
                id=id,
            )
        )

    def publish_envelope(self, envelope: Mapping[str, Any]) -> Future[Delivered]:
        """Send a CloudEvent that is ready, as a mapping of its attributes and `data`.

        It names specversion, id, source, type and subject; `time` is now if there is none. Raises and fails
        as `publish` does.
        """
        record, started = record_of(envelope, binary=self._binary), perf_counter()
        future = self._producer.send(
            record.topic,
            record.key,
            record.value,
            timestamp_ms=record.timestamp_ms,
            headers=record.headers,
        )
        future.add_done_callback(partial(_measure, record.topic, started))
        with self._lock:
            self._sent.append(future)
            while self._sent and self._sent[0].done():
                self._note(self._sent.popleft())
        return future

    def flush(self) -> Position:
        """Wait until all that was published since the last flush is in the log; answer the position after it.

        Raises DeliveryTimeout, or why the first of those that failed did.
        """
        self._producer.flush(self._timeout)
        with self._lock:
            while self._sent:
                self._note(self._sent.popleft())
            failure, self._failure = self._failure, None
            position, self._after = Position(self._after), {}
        if failure is not None:
            raise failure
        return position

    def _note(self, future: Future[Delivered]) -> None:
        if (failure := future.exception(self._timeout)) is not None:
            self._failure = self._failure or failure
            return
        record = future.result()
        self._after[record.partition] = max(record.offset + 1, self._after.get(record.partition, 0))

    def close(self) -> None:
        """Let go of the producer; does not flush."""
        if self._owns:
            self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # An error of the block is the one to be seen.
            with contextlib.suppress(MeshError) if kind else contextlib.nullcontext():
                self.flush()
        finally:
            self.close()


def _measure(topic: str, started: float, future: Future[Delivered]) -> None:
    if (failure := future.exception()) is None:
        metrics.PRODUCE_SECONDS.labels(topic).observe(perf_counter() - started)
    else:
        metrics.PRODUCE_ERRORS.labels(topic, type(failure).__name__).inc()
