"""Runs reads on Postgres, and sees to it that a version was live in the snapshot that was read.

Versions are kept in memory by generation. Every statement reads the generation in its own snapshot: where it
is another one, or a table is gone, the versions are loaded anew and the statement is built again. So a reader
moves from one version to the next at once, without a round trip more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Self

import psycopg
from psycopg import errors as postgres
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from mesh_core.read.changes import Changes
from mesh_core.read.compiler import Statement
from mesh_core.read.errors import InvalidValue, NotMigrated, ReadError, ReadTimeout, ReadUnavailable
from mesh_core.read.versions import LOAD, Live, live_from

Row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Row]

ATTEMPTS = 5
"""How often a read is built again because versions changed under it; each needs a deploy to be lost."""

_REPEATABLE_READ = b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_SESSION = "-c TimeZone=UTC -c default_transaction_read_only=on -c idle_in_transaction_session_timeout=60000"
SPENT: ContextVar[list[float]] = ContextVar("SPENT")
"""Seconds that each use of a connection took, where somebody wants to know them."""
_VERSION_GONE = (postgres.UndefinedTable, postgres.UndefinedColumn)


class Database:
    """A pool of read-only connections, and the live versions."""

    def __init__(
        self, url: str, *, pool_size: int, statement_timeout_seconds: float, wait_seconds: float = 3.0
    ) -> None:
        """`wait_seconds` is the longest that a read waits for a connection. Connects at `open`."""
        timeout = int(statement_timeout_seconds * 1000)
        self._wait = wait_seconds
        self.changes = Changes(url)
        """Notifications of positions."""
        self._live: Live | None = None
        self._loading = asyncio.Lock()
        self._streams = asyncio.Semaphore(max(1, pool_size // 2))
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            connection_class=psycopg.AsyncConnection,
            kwargs={
                "autocommit": True,
                "connect_timeout": 5,
                "application_name": "mesh read",
                "options": f"-c statement_timeout={timeout} {_SESSION}",
            },
            min_size=1,
            max_size=pool_size,
            timeout=wait_seconds,
            reconnect_timeout=5,
            open=False,
        )

    async def open(self) -> None:
        """Start connecting, without waiting for it: a read says so while Postgres is away."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        await self.changes.close()
        await self._pool.close(timeout=1)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read(self, build: Callable[[Live], Statement]) -> tuple[Live, Row]:
        """Run what `build` makes of the live versions: one round trip, one snapshot.

        The statement's one row begins with the generation. `build` may raise ReadError, and is called again
        where versions have changed. Raises ReadUnavailable, ReadTimeout, NotMigrated.
        """
        for _ in range(ATTEMPTS):
            live = await self._versions()
            try:
                statement = build(live)
            except ReadError:
                if await self._is_current(live):
                    raise
                continue
            try:
                row = await self._one(statement)
            except _VERSION_GONE:
                self._forget(live)
                continue
            if row[0] == live.generation:
                return live, row
            self._forget(live)
        raise ReadUnavailable("Versions change too fast to be read.", remedy="Try again.")

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[tuple[Live, Connection]]:
        """A `snapshot` that may last: half of the connections are kept from such. Raises ReadUnavailable."""
        try:
            async with asyncio.timeout(self._wait):
                await self._streams.acquire()
        except TimeoutError:
            raise ReadUnavailable(
                "As many rows are being streamed as may be.",
                remedy="Wait for a stream to end, or ask for pages.",
            ) from None
        try:
            async with self.snapshot() as found:
                yield found
        finally:
            self._streams.release()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[tuple[Live, Connection]]:
        """The live versions and a REPEATABLE READ transaction, of one snapshot, for several statements."""
        try:
            async with self._connection() as connection, connection.transaction():
                await connection.execute(_REPEATABLE_READ)
                cursor = await connection.execute(LOAD.encode())
                yield live_from(await cursor.fetchall()), connection
        except _VERSION_GONE as error:
            raise ReadUnavailable("A version was pruned while it was read.", remedy="Try again.") from error

    async def fetch(self, statement: Statement) -> list[Row]:
        """All rows of a statement that reads no version, such as one of control tables."""
        for attempt in (1, 2):
            try:
                async with self._connection() as connection:
                    cursor = await connection.execute(statement.text, statement.parameters)
                    return await cursor.fetchall()
            except ConnectionLost:
                if attempt == 2:
                    raise
                # After a restart of Postgres every idle connection is dead: replace them, then try again.
                await self._pool.check()
        raise AssertionError("unreachable")

    async def _one(self, statement: Statement) -> Row:
        rows = await self.fetch(statement)
        return rows[0]

    async def _versions(self) -> Live:
        if self._live is None:
            async with self._loading:  # one task loads for all that wait
                if self._live is None:
                    self._live = live_from(await self.fetch(Statement(LOAD.encode(), ())))
        return self._live

    async def _is_current(self, live: Live) -> bool:
        self._forget(live)
        return (await self._versions()).generation == live.generation

    def _forget(self, live: Live) -> None:
        if self._live is live:
            self._live = None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        started = perf_counter()
        try:
            async with self._pool.connection() as connection:
                yield connection
        except PoolTimeout:
            raise ReadUnavailable(
                f"No connection to Postgres within {self._wait:g} s.",
                remedy="Check that Postgres runs and is reachable, or raise MESH_DATABASE_POOL_SIZE.",
            ) from None
        except postgres.QueryCanceled:
            raise ReadTimeout(
                remedy="Ask for fewer rows, filter by the key, or raise MESH_STATEMENT_TIMEOUT_SECONDS."
            ) from None
        except postgres.UndefinedTable as error:
            if 'relation "mesh.' in str(error):
                raise NotMigrated(remedy="Run mesh migrate, then mesh deploy.") from None
            raise
        except psycopg.DataError as error:
            first = str(error).split("\n")[0]
            raise InvalidValue(
                f"Postgres cannot compare with a value: {first}.", remedy="Correct it."
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise ConnectionLost(
                "Postgres cannot be reached.", remedy="Check that Postgres runs, then try again."
            ) from error
        finally:
            if (spent := SPENT.get(None)) is not None:
                spent.append(perf_counter() - started)


class ConnectionLost(ReadUnavailable):
    """A connection broke."""
