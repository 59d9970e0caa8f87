"""Publishing what the API itself says, without ever blocking a read."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

from mesh_core.emit.publisher import Publisher
from mesh_core.log import Delivered, DeliveryTimeout, KafkaConfig, Position, connect
from mesh_core.model import Event
from mesh_core.telemetry import current, send_span

SOURCE = "/mesh/api"
TIMEOUT = 10.0
"""Seconds that a request waits for Kafka's acknowledgement."""


class Publishing:
    """Connects at the first event, so that reads are served while Kafka is away."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = replace(config, delivery_timeout=TIMEOUT, client_id="flexmesh-api")
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None

    async def publish(self, event: Event) -> Position:
        """The position that a read must reach to reflect `event`.

        Raises LogUnavailable (DeliveryTimeout among it), TopicMissing, MessageTooLarge or DeliveryFailed.
        """
        try:
            async with asyncio.timeout(TIMEOUT + 2):
                delivered = await asyncio.to_thread(self._publish, event)
        except TimeoutError:
            raise DeliveryTimeout(remedy="Check Kafka, then send the request again.") from None
        return Position.after([(delivered.partition, delivered.offset)])

    async def close(self) -> None:
        """Let go of the producer; what was acknowledged stays, everything else was never promised."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await asyncio.to_thread(publisher.close)

    def _publish(self, event: Event) -> Delivered:
        with self._lock:
            if self._publisher is None:
                self._publisher = Publisher(connect(self._config), SOURCE, timeout=TIMEOUT)
            publisher = self._publisher
        with send_span(event.topic):
            future = publisher.publish(event, correlation_id=current().correlation_id)
        return future.result(TIMEOUT)
