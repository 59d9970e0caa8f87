"""What a team writes by hand: a transaction of at most 100 events, a statement for each kind of event.

python -m bench.peers.handwritten prepare    # the empty tables, of W1 and of W2
python -m bench.peers.handwritten w1         # the latest state of contacts; w2: joined. Until it is terminated
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg

from bench.floor import joined
from bench.floor.consuming import Batch, consumer
from bench.floor.payloads import CONTACT_COLUMNS, Contact, Invoice, Organisation, last_states
from bench.floor.writing import Connection, save
from bench.history import CONTACT_TOPIC, INVOICE_TOPIC, ORGANISATION_TOPIC

TRANSACTION = 100

_COLUMNS = "id, org_id, name, email, status, version"
_VALUES = "%(id)s, %(org_id)s, %(name)s, %(email)s, %(status)s, %(version)s"
_UPDATE = (
    "org_id = excluded.org_id, name = excluded.name, email = excluded.email, "
    "status = excluded.status, version = excluded.version"
)
_CONTACT = f"INSERT INTO contact ({_COLUMNS}) VALUES ({_VALUES}) ON CONFLICT (id) DO UPDATE SET {_UPDATE}"
_JOINED_CONTACT = (
    f"INSERT INTO joined ({_COLUMNS}, org_name) "
    f"VALUES ({_VALUES}, (SELECT name FROM organisation WHERE id = %(org_id)s)) "
    f"ON CONFLICT (id) DO UPDATE SET {_UPDATE}, org_name = excluded.org_name"
)
_ORGANISATION = (
    "INSERT INTO organisation VALUES (%(id)s, %(name)s) ON CONFLICT (id) DO UPDATE SET name = excluded.name"
)
_RENAME = "UPDATE joined SET org_name = %(name)s WHERE org_id = %(id)s"
_INVOICE = (
    "INSERT INTO invoice VALUES (%(id)s, %(contact_id)s, %(amount)s) "
    "ON CONFLICT (id) DO UPDATE SET contact_id = excluded.contact_id, amount = excluded.amount"
)
_BEFORE = "SELECT contact_id, -1, -amount FROM invoice WHERE id = ANY(%s)"
_CHANGE = (
    "INSERT INTO joined (id, invoice_count, invoice_sum) VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET "
    "invoice_count = joined.invoice_count + excluded.invoice_count, "
    "invoice_sum = joined.invoice_sum + excluded.invoice_sum"
)

fold_contacts = last_states(Contact)
fold_organisations = last_states(Organisation)
fold_invoices = last_states(Invoice)


def prepare(connection: Connection) -> None:
    """Makes the empty tables."""
    connection.execute(f"CREATE TABLE contact ({CONTACT_COLUMNS})")
    joined.prepare(connection)
    connection.execute("CREATE INDEX ON joined (org_id)")


def write_contacts(cursor: psycopg.Cursor, batch: Batch) -> None:
    """W1."""
    contacts = fold_contacts(batch.values.get(CONTACT_TOPIC, []))
    cursor.executemany(_CONTACT, _rows(list(contacts.values())))


def write_joined(cursor: psycopg.Cursor, batch: Batch) -> None:
    """W2."""
    if organisations := fold_organisations(batch.values.get(ORGANISATION_TOPIC, [])):
        rows = _rows(list(organisations.values()))
        cursor.executemany(_ORGANISATION, rows)
        cursor.executemany(_RENAME, rows)
    if contacts := fold_contacts(batch.values.get(CONTACT_TOPIC, [])):
        cursor.executemany(_JOINED_CONTACT, _rows(list(contacts.values())))
    if invoices := fold_invoices(batch.values.get(INVOICE_TOPIC, [])):
        before = cursor.execute(_BEFORE, [list(invoices)]).fetchall()
        cursor.executemany(_INVOICE, _rows(list(invoices.values())))
        after = [(invoice.contact_id, 1, invoice.amount) for invoice in invoices.values()]
        cursor.executemany(_CHANGE, [*before, *after])


def _rows(payloads: Sequence[Contact | Organisation | Invoice]) -> list[dict[str, object]]:
    return [msgspec.structs.asdict(payload) for payload in payloads]


def main(task: str) -> None:
    """See the module."""
    with psycopg.connect(os.environ["MESH_DATABASE_URL"], prepare_threshold=1) as connection:
        if task == "prepare":
            prepare(connection)
            return
        topics, write = {
            "w1": ([CONTACT_TOPIC], write_contacts),
            "w2": ([ORGANISATION_TOPIC, CONTACT_TOPIC, INVOICE_TOPIC], write_joined),
        }[task]
        consume = consumer()
        Path(os.environ["BENCH_BEGAN"]).write_text(str(time.time()))
        for batch in consume(topics, TRANSACTION, False):
            with connection.cursor() as cursor:
                write(cursor, batch)
                save(cursor, batch.offsets)
            connection.commit()


if __name__ == "__main__":
    main(sys.argv[1])
