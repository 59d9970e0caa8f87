"""Notifications of positions, so that a read that waits need not ask again and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress

import psycopg

from mesh_core.log.position import Position, TopicPartition
from mesh_core.read.errors import ReadUnavailable

LISTENING_SECONDS = 1.0
"""Longest wait for a notification before looking anyway."""
POLLING_SECONDS = 0.1
"""Pause between two looks where notifications cannot be had, as on a standby."""
MAX_WAITING = 1000
"""Reads that may wait at once in a process."""
CHANNEL = "mesh_positions"


class Changes:
    """Notifications of positions, on one connection for all that wait; it is made when somebody first does."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.count = 0
        """Rises with every notification."""
        self._event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listening = False
        self._told: dict[TopicPartition, int] | None = {}
        """The last offset that a notification told of each partition; None once one told nothing."""
        self._heard_from = 0
        self._waiting = 0

    async def after(self, seen: int, wanted: Mapping[TopicPartition, int], seconds: float) -> None:
        """Wait for a notification after the one counted `seen` that has told of all that is `wanted`.

        But no longer than `seconds`, or until one may have been lost. Raises ReadUnavailable where too many wait.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen())
        if self._waiting >= MAX_WAITING:
            raise ReadUnavailable(f"{self._waiting} reads wait for positions already.", remedy="Try again.")
        longest = LISTENING_SECONDS if self._listening else POLLING_SECONDS
        self._waiting += 1
        try:
            async with asyncio.timeout(min(seconds, longest)):
                while self.count == seen or not self._may_have(wanted, seen):
                    await self._event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    def _may_have(self, wanted: Mapping[TopicPartition, int], seen: int) -> bool:
        if self._told is None or seen < self._heard_from:
            return True
        return all(self._told.get(at, 0) >= offset for at, offset in wanted.items())

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        """Until the connection is lost; who waits next starts anew."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=5, application_name="mesh read waiting"
            )
            async with connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                self._listening, self._told = True, {}
                self._wake()
                # Who waits since before must look, for what came then was not heard.
                self._heard_from = self.count
                async for told in connection.notifies():
                    self._hear(told.payload)
                    self._wake()
        except psycopg.Error:
            await asyncio.sleep(POLLING_SECONDS)
        finally:
            self._listening = False

    def _hear(self, payload: str) -> None:
        if not payload:
            self._told = None
        elif self._told is not None:
            self._told.update(Position.from_json(json.loads(payload)).offsets)

    def _wake(self) -> None:
        self.count += 1
        self._event.set()
        self._event = asyncio.Event()
