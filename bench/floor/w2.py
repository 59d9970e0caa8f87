"""The floor of W2, incremental: three topics into joined rows that are right after every transaction.

A contact is kept in its joined row alone. Count and sum change by what the batch's invoices contribute now less
what they contributed before, so an invoice may be amended, and move to another contact.

    python -m bench.floor.w2 prepare    # the empty tables
    python -m bench.floor.w2            # runs until it is terminated
"""

from __future__ import annotations

import os

import psycopg

from bench.floor.consuming import Batch, Consume
from bench.floor.joined import prepare
from bench.floor.payloads import Contact, Invoice, Organisation, last_states
from bench.floor.writing import Connection, copy, save, script
from bench.history import CONTACT_TOPIC, INVOICE_TOPIC, ORGANISATION_TOPIC

TRANSACTION = int(os.environ.get("BENCH_FLOOR_TRANSACTION", 100_000))

_STAGING = """
CREATE TEMP TABLE new_contact (id bigint, org_id bigint, name text, email text, status text, version bigint)
    ON COMMIT DELETE ROWS;
CREATE TEMP TABLE new_organisation (LIKE organisation) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE new_invoice (LIKE invoice) ON COMMIT DELETE ROWS;
"""
_ORGANISATIONS = """
INSERT INTO organisation SELECT * FROM new_organisation ON CONFLICT (id) DO UPDATE SET name = excluded.name
"""
_RENAME = """
UPDATE joined SET org_name = o.name FROM new_organisation AS o
WHERE joined.org_id = o.id AND joined.org_name IS DISTINCT FROM o.name
"""
_CONTACTS = """
INSERT INTO joined SELECT c.*, o.name FROM new_contact AS c LEFT JOIN organisation AS o ON o.id = c.org_id
ON CONFLICT (id) DO UPDATE SET org_id = excluded.org_id, name = excluded.name, email = excluded.email,
    status = excluded.status, version = excluded.version, org_name = excluded.org_name
"""
_INVOICES = """
WITH before AS MATERIALIZED (
    SELECT invoice.contact_id, invoice.amount FROM invoice JOIN new_invoice USING (id)
), kept AS (
    INSERT INTO invoice SELECT * FROM new_invoice
    ON CONFLICT (id) DO UPDATE SET contact_id = excluded.contact_id, amount = excluded.amount
)
INSERT INTO joined (id, invoice_count, invoice_sum)
SELECT contact_id, sum(n), sum(amount) FROM (
    SELECT contact_id, 1 AS n, amount FROM new_invoice UNION ALL SELECT contact_id, -1, -amount FROM before
) AS changes GROUP BY contact_id
ON CONFLICT (id) DO UPDATE SET invoice_count = joined.invoice_count + excluded.invoice_count,
    invoice_sum = joined.invoice_sum + excluded.invoice_sum
"""


class Writer:
    """Writes batches."""

    def __init__(self) -> None:
        self.contacts = last_states(Contact)
        self.organisations = last_states(Organisation)
        self.invoices = last_states(Invoice)

    def write(self, cursor: psycopg.Cursor, batch: Batch) -> None:
        """All of a batch, in the caller's transaction."""
        if values := batch.values.get(ORGANISATION_TOPIC):
            copy(cursor, "new_organisation", [o.line() for o in self.organisations(values).values()])
            cursor.execute(_ORGANISATIONS)
            cursor.execute(_RENAME)
        if values := batch.values.get(CONTACT_TOPIC):
            copy(cursor, "new_contact", [contact.line() for contact in self.contacts(values).values()])
            cursor.execute(_CONTACTS)
        if values := batch.values.get(INVOICE_TOPIC):
            copy(cursor, "new_invoice", [invoice.line() for invoice in self.invoices(values).values()])
            cursor.execute(_INVOICES)
        save(cursor, batch.offsets)


def project(connection: Connection, consume: Consume) -> None:
    """One transaction a batch, for ever."""
    connection.execute(_STAGING)
    connection.commit()
    writer = Writer()
    for batch in consume([ORGANISATION_TOPIC, CONTACT_TOPIC, INVOICE_TOPIC], TRANSACTION, False):
        with connection.cursor() as cursor:
            writer.write(cursor, batch)
        connection.commit()


if __name__ == "__main__":
    script(prepare, project)
