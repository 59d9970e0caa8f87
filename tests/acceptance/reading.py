"""Reads at a fixed rate, come what may: a slow answer delays none of the others, and its wait counts from when it was due."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPConnection
from statistics import quantiles

from tests.acceptance.orders.truth import Version, version_of

PER_SECOND = 200
READERS = 50
PAGE, ONE_IN = 50, 20
"""Every so many reads are of a page of so many rows."""


@dataclass(frozen=True)
class Answer:
    """One read: when it was due, sent and answered, and by which version; `error` is empty if it was right."""

    due: float
    sent: float
    done: float
    version: Version | None
    error: str = ""

    @property
    def milliseconds(self) -> float:
        return 1000 * (self.done - self.due)


class Reads:
    """Reads of orders below `orders`, from entering to leaving the block."""

    def __init__(self, port: int, orders: int) -> None:
        self.answers: list[Answer] = []
        self._port, self._orders = port, orders
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,), daemon=True) for n in range(READERS)]

    def __enter__(self) -> Reads:
        self._begun = time.monotonic() + 0.1
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def assert_right(self) -> None:
        """Every answer was right, none was of the old version once one of the new had been seen, and that was seen."""
        wrong = [answer.error for answer in self.answers if answer.error]
        assert not wrong, (len(wrong), wrong[:5])
        seen = min(answer.done for answer in self.answers if answer.version == "after")
        late = [answer for answer in self.answers if answer.version == "before" and answer.sent > seen]
        assert not late, (len(late), late[:5])

    def _read(self, number: int) -> None:
        """Every READERS-th read, from `number` on."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        choose, following = random.Random(number), ""
        while True:
            due = self._begun + number / PER_SECOND
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                break
            paging = (number // READERS + number) % ONE_IN == 0
            key = choose.randrange(self._orders)
            path = (
                (following or f"/v1/views/order_overview?limit={PAGE}")
                if paging
                else f"/v1/views/order_overview/{key}"
            )
            sent, version, error = time.monotonic(), None, ""
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                done = time.monotonic()
                link = answer.getheader("Link") or ""
                if answer.status != 200:
                    error = f"{path}: {answer.status} {body[:500]!r}"
                else:
                    found = json.loads(body, parse_float=Decimal)
                    version = _whole(found, key) if not paging else _page(found)
                    following = (
                        link.partition(">")[0].removeprefix("<") if paging and "next" in link else following
                    )
            except Exception as failure:
                done, error = time.monotonic(), f"{path}: {type(failure).__name__}: {failure}"
                connection.close()
            self.answers.append(Answer(due, sent, done, version, error))
            number += READERS


def _whole(row: dict[str, object], key: int) -> Version:
    assert row["order_id"] == key
    return version_of(row)


def _page(rows: list[dict[str, object]]) -> Version:
    keys = [row["order_id"] for row in rows]
    assert keys == list(range(keys[0], keys[0] + PAGE)), keys
    (version,) = {version_of(row) for row in rows}
    return version


@dataclass(frozen=True)
class Waits:
    """Percentiles of the answers that were due in some seconds, in milliseconds."""

    reads: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Waits:
        waits = [answer.milliseconds for answer in answers]
        cuts = quantiles(waits, n=100, method="inclusive")
        return cls(len(waits), cuts[49], cuts[98], max(waits))

    def __str__(self) -> str:
        return f"{self.reads:6,} reads  p50 {self.p50:7.1f} ms  p99 {self.p99:7.1f} ms  longest {self.longest:7.1f} ms"
