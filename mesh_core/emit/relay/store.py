"""What the relay asks of a service's database. A row is taken, then published; both are in the order of `sequence`.

Taking gives a row its `sequence`: that of the snapshot in which it is first seen, and within it that of inserting. So a
row whose transaction commits late is neither skipped, as by whoever reads on from the last position, nor waited for by
all others. Of one aggregate, what committed first is seen first; so sequences rise with every event of it, as they are
published. They are microseconds of the database's clock, or one more than the last: a table that is made anew or
restored goes on above what readers have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql

from mesh_core.emit.outbox.tables import split_name
from mesh_core.emit.relay.address import OutboxAddress
from mesh_core.errors import DependencyUnavailable, MeshError
from mesh_core.store.connections import connect

COUNTED = 100_000
"""Most waiting rows that are counted."""
_BYTES = 8_000_000
_DELETED_AT_ONCE = 10_000


class FenceRaised(MeshError):
    """Another relay has begun on this outbox."""


class NoOutbox(DependencyUnavailable):
    """The database has no outbox of this name."""


class Row(NamedTuple):
    """A row of an outbox, taken; `payload` and `headers` are JSON, `occurred_at` is None if Python has no such time."""

    id: str
    aggregatetype: str
    aggregateid: str
    type: str
    payload: str
    workflow_id: str | None
    headers: str
    aggregateversion: int | None
    sequence: int
    occurred_at: datetime | None

    @property
    def aggregate(self) -> tuple[str, str]:
        """Within which there is an order."""
        return self.aggregatetype, self.aggregateid


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be published; `seconds` is the age of the oldest, 0 if there is none."""

    waiting: int
    refused: int
    seconds: float


class Outbox:
    """One connection to one outbox.

    What writes raises FenceRaised once another relay has begun; everything raises psycopg's errors.
    """

    def __init__(self, address: OutboxAddress) -> None:
        """Raises psycopg.OperationalError, NoOutbox."""
        schema, name = split_name(address.table)
        self.connection = connect(address.database_url, f"mesh relay of {address.service}")
        # Few of the rows are asked for, and statistics of a queue are always old.
        self.connection.execute(
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
        )
        self._names = {
            "outbox": sql.Identifier(*filter(None, (schema, name))),
            "relay": sql.Identifier(*filter(None, (schema, f"{name}_relay"))),
        }
        self._fence = 0
        self._last = 0
        found = self._execute("SELECT to_regclass(%s) IS NOT NULL", (self._text("relay"),)).fetchone()
        if not found[0]:
            self.connection.close()
            raise NoOutbox(
                f"The database of {address.service} has no table {address.table}_relay.",
                remedy="Make the outbox: `mesh relay --sql` prints the statements.",
            )

    def try_lock(self) -> bool:
        """Whether this is now the one relay of the outbox, until its connection ends."""
        statement = (
            "SELECT pg_try_advisory_lock(hashtextextended('mesh relay ' || %s::regclass::oid::text, 0))"
        )
        found = self._execute(statement, (self._text("outbox"),)).fetchone()
        return bool(found[0])

    def begin(self) -> int:
        """Keep out whoever relayed before; answer up to which sequence all is in the log."""
        found = self._execute(
            "INSERT INTO {relay} AS r VALUES (1, 0, 0, 1, now()) ON CONFLICT (id) DO UPDATE "
            "SET fence = r.fence + 1, updated_at = now() RETURNING fence, sequence, published"
        ).fetchone()
        self._fence, self._last, published = found
        self._execute("LISTEN mesh_outbox")
        return int(published)

    def taken(self, after: int, limit: int) -> list[Row]:
        """Rows that were taken, by this or by an earlier relay, above a sequence, in its order."""
        return self._rows(
            f"SELECT {_COLUMNS} FROM {{outbox}} o WHERE sequence > %s ORDER BY sequence LIMIT %s",
            (after, limit),
        )

    def take(self, limit: int, published: int) -> list[Row]:
        """Take the next rows, in one transaction with the news that all up to `published` is in the log."""
        with self.connection.transaction():
            self._advance(published)
            rows = self._rows(
                f"""
                WITH next AS MATERIALIZED (
                    SELECT position, row_number() OVER w AS n, sum(pg_column_size(payload)) OVER w AS bytes FROM {{outbox}} o
                    WHERE sequence IS NULL AND refused IS NULL AND NOT EXISTS (
                        SELECT FROM {{outbox}} held WHERE held.refused IS NOT NULL
                        AND held.aggregatetype = o.aggregatetype AND held.aggregateid = o.aggregateid)
                    WINDOW w AS (ORDER BY position) ORDER BY position LIMIT %s
                ), base AS MATERIALIZED (
                    SELECT greatest(%s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS above
                ), taken AS (
                    UPDATE {{outbox}} o SET sequence = above + n FROM next, base
                    WHERE (bytes < %s OR n = 1) AND o.position = next.position AND o.sequence IS NULL AND o.refused IS NULL
                    RETURNING {_COLUMNS}
                ) SELECT * FROM taken ORDER BY sequence
                """,
                (limit, self._last, _BYTES),
            )
            if rows:
                self._execute("UPDATE {relay} SET sequence = %s", (rows[-1].sequence,))
        if rows:
            self._last = rows[-1].sequence
        return rows

    def refuse(self, refused: Sequence[tuple[str, str]], held: Sequence[str]) -> None:
        """Say why rows cannot be published, and give back those of the same aggregates behind them."""
        with self.connection.transaction(), self.connection.cursor() as cursor:
            self._advance(0)
            for identifier, reason in refused:
                cursor.execute(
                    self._sql("UPDATE {outbox} SET refused = %s, sequence = NULL WHERE id = %s"),
                    (reason.replace("\0", "\ufffd")[:2000], identifier),
                )
            cursor.execute(
                self._sql("UPDATE {outbox} SET sequence = NULL WHERE id = ANY(%s::uuid[])"), (list(held),)
            )

    def advance(self, published: int) -> None:
        """All up to `published` is in the log."""
        with self.connection.transaction():
            self._advance(published)

    def clean(self, published: int, retention_seconds: float) -> int:
        """Delete some of the rows that are in the log and older than the retention; how many."""
        deleted: int = self._execute(
            "DELETE FROM {outbox} WHERE id IN (SELECT id FROM {outbox} WHERE sequence <= %s "
            "AND sequence < (extract(epoch FROM clock_timestamp()) - %s) * 1000000 ORDER BY sequence LIMIT %s)",
            (published, retention_seconds, _DELETED_AT_ONCE),
        ).rowcount
        return deleted

    def backlog(self) -> Backlog:
        """How much waits, for people."""
        found = self._execute(
            "SELECT (SELECT count(*) FROM (SELECT FROM {outbox} WHERE sequence IS NULL AND refused IS NULL LIMIT %s) w), "
            "(SELECT count(*) FROM {outbox} WHERE refused IS NOT NULL), "
            "(SELECT extract(epoch FROM clock_timestamp() - occurred_at)::float8 FROM {outbox} "
            "WHERE sequence IS NULL AND refused IS NULL ORDER BY position LIMIT 1)",
            (COUNTED,),
        ).fetchone()
        return Backlog(found[0], found[1], max(0.0, found[2] or 0.0))

    def wait(self, seconds: float) -> None:
        """Until something is inserted, or the time is over."""
        for _ in self.connection.notifies(timeout=seconds, stop_after=1):
            pass

    def close(self) -> None:
        """Let go of the connection, and with it of the outbox."""
        self.connection.close()

    def _advance(self, published: int) -> None:
        found = self._execute(
            "UPDATE {relay} SET published = greatest(published, %s), updated_at = now() WHERE fence = %s",
            (published, self._fence),
        )
        if found.rowcount != 1:
            raise FenceRaised

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Row]:
        return list(map(Row._make, self._execute(statement, values).fetchall()))

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self.connection.execute(self._sql(statement), values)

    def _sql(self, statement: str) -> sql.Composed:
        return sql.SQL(statement).format(**self._names)

    def _text(self, name: str) -> str:
        return self._names[name].as_string(self.connection)


_COLUMNS = (
    "o.id::text, o.aggregatetype, o.aggregateid, o.type, o.payload::text, o.workflow_id::text, o.headers::text, "
    "o.aggregateversion, o.sequence, CASE WHEN isfinite(o.occurred_at) AND o.occurred_at < '9999-12-31' "
    "AND o.occurred_at > '0001-01-02' THEN o.occurred_at END AS occurred_at"
)
