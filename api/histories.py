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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mesh_core.engine.lineage_process"),
            stdin=PIPE,
            stdout=PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        reading = asyncio.create_task(_read(process, order))
        try:
            async with asyncio.timeout(self._settings.history_seconds):
                while not (await asyncio.wait({reading}, timeout=LOOK_SECONDS))[0]:
                    if await is_gone():
                        raise read.ReadUnavailable("Nobody waits for the history any more.")
                found: dict[str, Any] = await asyncio.to_thread(_decode, reading.result())
                return found
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


async def _read(process: Process, order: Order) -> bytes:
    """All that the process writes. Its input stays open, since it ends with that."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(order.to_line())
    return await process.stdout.read()
