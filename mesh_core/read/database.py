"""Runs reads on Postgres, and sees to it that a version was live in the snapshot that was read.

Versions are kept in memory by generation. Every statement reads the generation in its own snapshot: where it
is another one, or a table is gone, the versions are loaded anew and the statement is built again. So a reader
moves from one version to the next at once, without a round trip more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Self

import psycopg
from psycopg import errors as postgres
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from mesh_core.read.access import seen_by
from mesh_core.read.changes import Changes
from mesh_core.read.compiler import Statement
from mesh_core.read.connections import Connection, Row, become_reader
from mesh_core.read.errors import InvalidValue, NotMigrated, ReadError, ReadTimeout, ReadUnavailable
from mesh_core.read.gathering import Gathering
from mesh_core.read.subject import MESH, Subject
from mesh_core.read.versions import LOAD, Live, grants_statement, live_from

ATTEMPTS = 5
"""How often a read is built again because versions changed under it; each needs a deploy to be lost."""

_REPEATABLE_READ = b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_LET_THROUGH = b"SELECT set_config('mesh.rows', %s, true)"
_GENERATION = b"SELECT value FROM mesh.generation WHERE id = 1"
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
        self._gathering = Gathering(self.fetch)
        self._streams = asyncio.Semaphore(max(1, pool_size // 2))
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            connection_class=Connection,
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

    def as_seen_by(self, subject: Subject) -> Reader:
        """What `subject` may read of it."""
        return Reader(self, subject)

    @property
    def as_itself(self) -> Reader:
        """All of it, for what the mesh wants to know of itself."""
        return Reader(self, MESH)

    async def read(self, subject: Subject, build: Callable[[Live], Statement]) -> tuple[Live, Row]:
        """See `Reader.read`."""
        for _ in range(ATTEMPTS):
            live = await self._versions()
            seen = seen_by(live, subject)
            try:
                statement = build(seen)
            except ReadError:
                if await self._is_current(live):
                    raise
                continue
            try:
                row = await self._one(statement, seen.row_security)
            except _VERSION_GONE:
                self._forget(live)
                continue
            if row[0] == live.generation:
                return seen, row
            self._forget(live)
        raise ReadUnavailable("Versions change too fast to be read.", remedy="Try again.")

    @asynccontextmanager
    async def streaming(self, subject: Subject) -> AsyncIterator[tuple[Live, Connection]]:
        """See `Reader.streaming`."""
        try:
            async with asyncio.timeout(self._wait):
                await self._streams.acquire()
        except TimeoutError:
            raise ReadUnavailable(
                "As many rows are being streamed as may be.",
                remedy="Wait for a stream to end, or ask for pages.",
            ) from None
        try:
            async with self.snapshot(subject) as found:
                yield found
        finally:
            self._streams.release()

    @asynccontextmanager
    async def snapshot(self, subject: Subject) -> AsyncIterator[tuple[Live, Connection]]:
        """See `Reader.snapshot`."""
        try:
            async with self._connection() as connection, connection.transaction():
                await connection.execute(_REPEATABLE_READ)
                seen = seen_by(await self._live_in(connection), subject)
                if seen.row_security:
                    await connection.execute(_LET_THROUGH, (seen.row_security,))
                yield seen, connection
        except _VERSION_GONE as error:
            raise ReadUnavailable("A version was pruned while it was read.", remedy="Try again.") from error

    async def at_least(self, generation: int) -> Live:
        """The live versions and grants, of this generation or a later one; those in memory, if they are."""
        live = await self._versions()
        if live.generation < generation:
            self._forget(live)
            live = await self._versions()
        return live

    async def fetch(self, statement: Statement, row_security: str = "") -> list[Row]:
        """All rows of a statement; those of `row_security` in a transaction that has it, without a round trip more."""
        for attempt in (1, 2):
            try:
                async with self._connection() as connection:
                    if not row_security:
                        cursor = await connection.execute(statement.text, statement.parameters)
                        return await cursor.fetchall()
                    async with connection.pipeline(), connection.transaction():
                        await connection.execute(_LET_THROUGH, (row_security,))
                        cursor = await connection.execute(statement.text, statement.parameters)
                    return await cursor.fetchall()
            except ConnectionLost:
                if attempt == 2:
                    raise
                # After a restart of Postgres every idle connection is dead: replace them, then try again.
                await self._pool.check()
        raise AssertionError("unreachable")

    async def _one(self, statement: Statement, row_security: str) -> Row:
        if statement.form is None or row_security:
            return (await self.fetch(statement, row_security))[0]
        started = perf_counter()
        try:
            return await self._gathering.row(statement.form, statement)
        finally:
            if (spent := SPENT.get(None)) is not None:
                spent.append(perf_counter() - started)

    async def _versions(self) -> Live:
        if self._live is None:
            async with self._loading:  # one task loads for all that wait
                if self._live is None:
                    await self._load()
        assert self._live is not None
        return self._live

    async def _load(self) -> None:
        for attempt in (1, 2):
            try:
                async with self._connection() as connection, connection.transaction():
                    await connection.execute(_REPEATABLE_READ)
                    await self._live_in(connection)
                return
            except ConnectionLost:
                if attempt == 2:
                    raise
                await self._pool.check()

    async def _live_in(self, connection: Connection) -> Live:
        """The live versions and grants of the connection's snapshot: those in memory, if they are of its generation."""
        cursor = await connection.execute(_GENERATION)
        found = await cursor.fetchone()
        if (known := self._live) is not None and found is not None and found[0] == known.generation:
            return known
        cursor = await connection.execute(LOAD.encode())
        live = live_from(await cursor.fetchall())
        cursor = await connection.execute(grants_statement(live).encode())
        live = live.granting(await cursor.fetchall())
        if known is None or known.generation < live.generation:
            self._live = live
        return live

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
                if not connection.is_reader:
                    await become_reader(connection)
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
        except postgres.InsufficientPrivilege as error:  # what this revision's migration grants
            raise NotMigrated(
                f"Reads may not read what they need: {str(error).splitlines()[0]}.",
                remedy="Run mesh migrate.",
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


@dataclass(frozen=True, slots=True)
class Reader:
    """A Database as one subject sees it: what it may not see is not there."""

    database: Database
    subject: Subject

    @property
    def changes(self) -> Changes:
        """Notifications of positions."""
        return self.database.changes

    async def read(self, build: Callable[[Live], Statement]) -> tuple[Live, Row]:
        """Run what `build` makes of the live versions: one round trip, one snapshot.

        The statement's one row begins with the generation. `build` may raise ReadError, and is called again
        where versions have changed. Raises ReadUnavailable, ReadTimeout, NotMigrated.
        """
        return await self.database.read(self.subject, build)

    def snapshot(self) -> AbstractAsyncContextManager[tuple[Live, Connection]]:
        """The live versions and a REPEATABLE READ transaction, of one snapshot, for several statements."""
        return self.database.snapshot(self.subject)

    def streaming(self) -> AbstractAsyncContextManager[tuple[Live, Connection]]:
        """A `snapshot` that may last: half of the connections are kept from such. Raises ReadUnavailable."""
        return self.database.streaming(self.subject)


class ConnectionLost(ReadUnavailable):
    """A connection broke."""
