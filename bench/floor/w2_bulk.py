"""The floor of W2, bulk: read all there is into slim tables, join once, go live with it in the same transaction.

python -m bench.floor.w2_bulk prepare    # the empty tables
python -m bench.floor.w2_bulk            # builds, then waits to be terminated
python -m bench.floor.w2_bulk two        # the same; a second process reads the invoices meanwhile
python -m bench.floor.w2_bulk invoices   # that second process
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import psycopg

from bench.floor import joined
from bench.floor.consuming import Consume, consumer
from bench.floor.payloads import CONTACT_COLUMNS, Contact, Invoice, Organisation, last_states
from bench.floor.writing import Connection, copy, save, script
from bench.history import CONTACT_TOPIC, INVOICE_TOPIC, ORGANISATION_TOPIC

TRANSACTION = int(os.environ.get("BENCH_FLOOR_TRANSACTION", 100_000))
Offsets = dict[tuple[str, int], int]

TABLES: dict[str, tuple[str, Callable[[Iterable[bytes]], Mapping[int, Contact | Organisation | Invoice]]]] = {
    ORGANISATION_TOPIC: ("organisation", last_states(Organisation)),
    CONTACT_TOPIC: ("contact", last_states(Contact)),
    INVOICE_TOPIC: ("invoice", last_states(Invoice)),
}
_UPDATES = {
    "organisation": "name = excluded.name",
    "contact": "org_id = excluded.org_id, name = excluded.name, email = excluded.email, "
    "status = excluded.status, version = excluded.version",
    "invoice": "contact_id = excluded.contact_id, amount = excluded.amount",
}
_JOIN = """
INSERT INTO joined
SELECT c.*, o.name, coalesce(i.n, 0), coalesce(i.amount, 0) FROM contact AS c
LEFT JOIN organisation AS o ON o.id = c.org_id
LEFT JOIN (SELECT contact_id, count(*) AS n, sum(amount) AS amount FROM invoice GROUP BY contact_id) AS i
ON i.contact_id = c.id
"""


def prepare(connection: Connection) -> None:
    """Makes the empty tables."""
    joined.prepare(connection)
    connection.execute(f"CREATE TABLE contact ({CONTACT_COLUMNS})")


def read(connection: Connection, consume: Consume, topics: Sequence[str]) -> Offsets:
    """Fills the tables of these topics up to what is their end now, which it answers."""
    for topic in topics:
        table, _ = TABLES[topic]
        connection.execute(f"CREATE TEMP TABLE new_{table} (LIKE {table}) ON COMMIT DELETE ROWS")
    connection.commit()
    offsets: Offsets = {}
    for batch in consume(topics, TRANSACTION, True):
        with connection.cursor() as cursor:
            for topic, values in batch.values.items():
                table, fold = TABLES[topic]
                copy(cursor, f"new_{table}", [state.line() for state in fold(values).values()])
                cursor.execute(
                    f"INSERT INTO {table} SELECT * FROM new_{table} ON CONFLICT (id) DO UPDATE SET {_UPDATES[table]}"
                )
        connection.commit()
        offsets |= batch.offsets
    return offsets


def project(connection: Connection, consume: Consume) -> None:
    """Builds, alone or in two processes, and waits."""
    if "two" in sys.argv[1:]:
        command = [sys.executable, "-m", "bench.floor.w2_bulk", "invoices"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as second:
            offsets = read(connection, consume, [ORGANISATION_TOPIC, CONTACT_TOPIC])
            told, _ = second.communicate()
        if second.returncode:
            raise RuntimeError(f"The second process ended with status {second.returncode}.")
        offsets |= {(INVOICE_TOPIC, part): int(end) for part, end in enumerate(told.split())}
    else:
        offsets = read(connection, consume, list(TABLES))
    with connection.cursor() as cursor:
        cursor.execute(_JOIN)
        save(cursor, offsets)
    connection.commit()
    signal.pause()


def read_invoices() -> None:
    """Prints the ends that it reached, by partition."""
    with psycopg.connect(os.environ["MESH_DATABASE_URL"]) as connection:
        offsets = read(connection, consumer(), [INVOICE_TOPIC])
        print(*[offsets.get((INVOICE_TOPIC, part), 0) for part in range(1 + max(p for _, p in offsets))])


if __name__ == "__main__":
    if sys.argv[1:] == ["invoices"]:
        read_invoices()
    else:
        script(prepare, project)
