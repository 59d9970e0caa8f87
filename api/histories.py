"""Histories of rows, each told by a process of its own: reading the log would keep the API from its other requests."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec

from mesh_core.engine.lineage_process import Order
from mesh_core.errors import MeshError
from mesh_core.log import KafkaConfig, LogUnavailable, Position, connect
from mesh_core.read import Told
from mesh_core.read import errors as read
from mesh_core.settings import Settings
from mesh_core.telemetry import get_logger

AT_ONCE = 2
"""Histories that one API process has told at the same time."""
LOOK_SECONDS = 0.5
"""How long after a client has gone its history is still told."""
READY_SECONDS = 300
"""How long a process waits for the next history. To start one takes longer than most histories do."""
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_ERRORS: dict[str, type[MeshError]] = {
    kind.__name__: kind
    for kind in (read.HistoryTooLong, read.LogIncomplete, read.NotMigrated, read.NotDeployed)
}
log = get_logger(__name__)


class Histories:
    """Has histories told, a few at once, each within `history_events` and `history_seconds` of the settings."""

    def __init__(self, settings: Settings, database_url: str, kafka: KafkaConfig) -> None:
        self._settings, self._database_url, self._kafka = settings, database_url, kafka
        self._running = 0
        self._ready = _Ready()

    async def close(self) -> None:
        """Let go of the process that waits for the next history."""
        await self._ready.close()

    async def told(self, view: str, key: str, is_gone: Callable[[], Awaitable[bool]]) -> Told:
        """The history of a row, whole; `is_gone` says whether nobody waits for it any more.

        Raises HistoriesBusy, HistoryTooLong, LogIncomplete, LogUnavailable, ReadTimeout, ReadUnavailable.
        """
        if self._running >= AT_ONCE:
            raise read.HistoriesBusy(
                f"{AT_ONCE} histories are being told here, and no more may be.",
                remedy="Try again in a few seconds.",
            )
        self._running += 1
        try:
            document = await self._document(view, key, is_gone)
        finally:
            self._running -= 1
        if (error := document.get("error")) is not None:
            kind = _ERRORS.get(error["kind"], read.ReadUnavailable)
            raise kind(error["message"], remedy=error["remedy"])
        return Told(
            document["version"], Position.from_json(document["position"]).to_header(), document["steps"]
        )

    async def _document(self, view: str, key: str, is_gone: Callable[[], Awaitable[bool]]) -> dict[str, Any]:
        if not await asyncio.to_thread(connect(self._kafka).reachable):
            raise LogUnavailable(
                remedy="Check that Kafka runs and that MESH_KAFKA_BOOTSTRAP_SERVERS is right."
            )
        archive = self._settings.archive
        order = Order(
            self._database_url,
            self._kafka,
            view,
            key,
            self._settings.history_events,
            None if archive is None else str(archive),
        )
        process = await self._ready.take()
        reading = asyncio.create_task(_read(process, order))
        try:
            async with asyncio.timeout(self._settings.history_seconds):
                while not (await asyncio.wait({reading}, timeout=LOOK_SECONDS))[0]:
                    if await is_gone():
                        raise read.ReadUnavailable("Nobody waits for the history any more.")
                found: dict[str, Any] = await asyncio.to_thread(_decode, reading.result())
        except TimeoutError:
            raise read.ReadTimeout(
                f"The history was not told within {self._settings.history_seconds:g} s.",
                remedy="Use mesh history, which may take any time, or raise MESH_HISTORY_SECONDS.",
            ) from None
        except msgspec.DecodeError:
            log.error("a history could not be told", view=view, status=await process.wait())
            raise read.ReadUnavailable(
                "The history could not be told.", remedy="Look in the log; mesh history says more."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await asyncio.gather(reading, return_exceptions=True)
        await self._ready.prepare()
        return found


class _Ready:
    """A process that has started already, for the next history; for a while."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self) -> Process:
        """It, or a new one."""
        process = self._forget()
        return await _started() if process is None or process.returncode is not None else process

    async def prepare(self) -> None:
        """Start one, unless there is one; where none can be started now, the next `take` tries again."""
        if self._is_wanted():
            try:
                process = await _started()
            except OSError as error:
                log.warning("no process is ready for the next history", cause=str(error))
                return
            if self._is_wanted():
                self._process = process
                self._ending = asyncio.get_running_loop().call_later(READY_SECONDS, self._end)
            else:  # another came before it
                process.kill()
                await process.wait()

    async def close(self) -> None:
        """End it, and start no more."""
        self._closed = True
        if (process := self._end()) is not None:
            await process.wait()

    def _is_wanted(self) -> bool:
        return self._process is None and not self._closed

    def _end(self) -> Process | None:
        process = self._forget()
        if process is not None and process.returncode is None:
            process.kill()
        return process

    def _forget(self) -> Process | None:
        if self._ending is not None:
            self._ending.cancel()
        process, self._process = self._process, None
        return process


async def _started() -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh_core.engine.lineage_process"),
        stdin=PIPE,
        stdout=PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


async def _read(process: Process, order: Order) -> bytes:
    """All that the process writes. Its input stays open, since it ends with that."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(order.to_line())
    return await process.stdout.read()
