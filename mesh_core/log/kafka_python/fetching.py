"""Fetches what all partitions have, which kafka-python 3.0.12 does not if an answer comes at the wrong moment."""

from __future__ import annotations

from typing import Any

from kafka.future import Future


class Fetching:
    """Takes the place of `Fetcher._send_fetches_async` in one KafkaConsumer.

    A fetch leaves out partitions of which records are in hand, and none follows before it is answered. Records may come
    between looking for them and sending the next fetch. That would be for the idle partitions alone then, and both the
    records and all that the others get meanwhile would wait for its end: `fetch_max_wait_ms`.
    """

    def __init__(self, consumer: Any) -> None:
        """`consumer`: a KafkaConsumer."""
        self._fetcher = fetcher = consumer._fetcher
        self._send = fetcher._send_fetches_async
        fetcher._send_fetches_async = self._send_once_empty

    async def _send_once_empty(self) -> Any:
        """On the IO thread, as are answers: if there is one by now, let it be taken first."""
        if not self._fetcher._completed_fetches:
            return await self._send()
        self._fetcher._fetch_futures.append(Future().success(None))  # whoever waits looks again
        return []
