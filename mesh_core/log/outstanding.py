"""Records that were sent and are not acknowledged: bounded in bytes, each with a deadline."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout

from mesh_core.log.errors import DeliveryTimeout, MessageTooLarge
from mesh_core.log.interface import Delivered, Headers

MAX_MESSAGE_BYTES = 1_000_000
"""The largest message that any driver sends: key, value and headers before compression."""

PUBLISH_AGAIN = "Publish it again under the same id."

_MAX_BYTES = 64 * 1024 * 1024


def check_size(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """The size of a message in bytes. Raises MessageTooLarge, naming size and limit."""
    size = len(key or b"") + len(value or b"") + sum(len(name) + len(data) for name, data in headers)
    if size > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"A message for topic {topic} has {size:,} bytes; the limit is {MAX_MESSAGE_BYTES:,}.",
            remedy="Publish a reference to large content instead of the content.",
        )
    return size


class Outstanding:
    """The futures of a producer, in the order of sending. Safe for threads."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that a record may wait for its acknowledgement."""
        self._timeout = timeout
        self._lock = threading.Lock()
        self._queue: deque[tuple[float, int, Future[Delivered]]] = deque()
        self._bytes = 0

    def add(self, size: int) -> Future[Delivered]:
        """A future for a record of `size` bytes, after waiting until there is room.

        Raises DeliveryTimeout if there is none in time.
        """
        deadline = time.monotonic() + self._timeout
        while not self.has_room() and (oldest := self._oldest()):
            _await(oldest[1], deadline - time.monotonic())
        future: Future[Delivered] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            self._queue.append((time.monotonic() + self._timeout, size, future))
            self._bytes += size
            self._drop_settled(2)  # so that the queue, and with it the garbage collector's work, stays short
        return future

    def has_room(self) -> bool:
        """Whether `add` would not wait now."""
        return self._bytes <= _MAX_BYTES

    def overdue(self) -> bool:
        """Whether a record has waited longer than it may."""
        oldest = self._oldest()
        return oldest is not None and oldest[0] <= time.monotonic()

    def wait(self, timeout: float) -> None:
        """Until all that was sent before is settled. Raises DeliveryTimeout after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._lock:
            last = self._queue[-1][2] if self._queue else None
        while oldest := self._oldest():
            _await(oldest[1], deadline - time.monotonic())
            if oldest[1] is last:
                break

    def fail_all(self) -> None:
        """Give up on every record that is not acknowledged."""
        with self._lock:
            given_up, self._queue, self._bytes = self._queue, deque(), 0
        for _, _, future in given_up:
            settle(future, DeliveryTimeout(remedy=PUBLISH_AGAIN))

    def _oldest(self) -> tuple[float, Future[Delivered]] | None:
        with self._lock:
            self._drop_settled(len(self._queue))
            return (self._queue[0][0], self._queue[0][2]) if self._queue else None

    def _drop_settled(self, most: int) -> None:
        queue = self._queue
        while most and queue and queue[0][2].done():
            self._bytes -= queue.popleft()[1]
            most -= 1


def settle(future: Future[Delivered], outcome: Delivered | Exception) -> None:
    """Resolve the future, unless that was done before."""
    try:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        pass  # given up on at its deadline, acknowledged after all


def _await(future: Future[Delivered], seconds: float) -> None:
    try:
        future.exception(max(0.0, seconds))
    except FutureTimeout as error:
        raise DeliveryTimeout("Kafka did not acknowledge all records in time.") from error
