"""Notifications of positions, so that a read that waits need not ask again and again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

LISTENING_SECONDS = 1.0
"""Longest wait for a notification before looking anyway."""
POLLING_SECONDS = 0.1
"""Pause between two looks where notifications cannot be had, as on a standby."""
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

    async def after(self, seen: int, seconds: float) -> None:
        """Wait for a notification after the one counted `seen`, but no longer than `seconds`, or until one may be lost."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen())
        if self.count != seen:
            return
        longest = LISTENING_SECONDS if self._listening else POLLING_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, longest)):
                await self._event.wait()

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
                self._listening = True
                self._wake()  # what came before was not heard
                async for _ in connection.notifies():
                    self._wake()
        except psycopg.Error:
            await asyncio.sleep(POLLING_SECONDS)
        finally:
            self._listening = False

    def _wake(self) -> None:
        self.count += 1
        self._event.set()
        self._event = asyncio.Event()
