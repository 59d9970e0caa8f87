"""The tables that W2's straight scripts make."""

from __future__ import annotations

from bench.floor.payloads import CONTACT_COLUMNS
from bench.floor.writing import CHECKPOINT, Connection

ROWS = (
    "SELECT id, org_id, name, email, status, version, org_name, invoice_count, invoice_sum "
    "FROM joined WHERE version IS NOT NULL"
)
"""The joined rows. An invoice can come before its contact: then the contact's row waits for the rest of it."""


def prepare(connection: Connection) -> None:
    """Makes the empty tables. An invoice can be amended, so what it last contributed is kept."""
    connection.execute("CREATE TABLE organisation (id bigint PRIMARY KEY, name text)")
    connection.execute("CREATE TABLE invoice (id bigint PRIMARY KEY, contact_id bigint, amount bigint)")
    connection.execute(
        f"CREATE TABLE joined ({CONTACT_COLUMNS}, org_name text, invoice_count bigint NOT NULL DEFAULT 0, "
        "invoice_sum bigint NOT NULL DEFAULT 0)"
    )
    connection.execute(CHECKPOINT)
