"""W1 and W2 by Pathway, as its documentation has it: tables of Kafka topics, last state by version, joins.

python -m bench.peers.by_pathway w1    # in the environment of requirements/bench-peers; w2: joined
"""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pathway as pw

COMMIT_MILLISECONDS = 50
"""How long Pathway gathers what belongs together; its default, 1500, is slow to show an event."""


class Contact(pw.Schema):  # type: ignore[misc]
    """Of erp.events."""

    cid: int
    org_id: int
    name: str
    email: str
    status: str
    version: int


class Organisation(pw.Schema):  # type: ignore[misc]
    """Of registry.events."""

    oid: int
    name: str
    version: int


class Invoice(pw.Schema):  # type: ignore[misc]
    """Of billing.events."""

    iid: int
    contact_id: int
    amount: int
    version: int


def read(topic: str, schema: Any) -> Any:
    """The last state of each thing. (Its reducer `latest` goes by arrival and has been seen to be wrong.)"""
    key, *_ = names = list(schema.column_names())
    events = pw.io.kafka.read(
        {
            "bootstrap.servers": os.environ["MESH_KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": f"pathway-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": "6000",
            "fetch.wait.max.ms": "20",
        },
        topic,
        schema=schema,
        format="json",
        json_field_paths={name: "/data/id" if name == key else f"/data/{name}" for name in names},
        autocommit_duration_ms=COMMIT_MILLISECONDS,
    )
    newest = events.groupby(events[key]).reduce(row=pw.reducers.argmax(events.version))
    return newest.select(**{name: events.ix(newest.row)[name] for name in names})


def joined(contacts: Any) -> Any:
    """W2."""
    organisations = read("registry.events", Organisation)
    invoices = read("billing.events", Invoice)
    owed = invoices.groupby(invoices.contact_id).reduce(
        invoices.contact_id, number=pw.reducers.count(), amount=pw.reducers.sum(invoices.amount)
    )
    named = contacts.join_left(organisations, contacts.org_id == organisations.oid).select(
        *[contacts[name] for name in Contact.column_names()], org_name=organisations.name
    )
    return named.join_left(owed, named.cid == owed.contact_id).select(
        *[named[name] for name in (*Contact.column_names(), "org_name")],
        invoice_count=pw.coalesce(owed.number, 0),
        invoice_sum=pw.coalesce(owed.amount, 0),
    )


def main(task: str) -> None:
    """Runs until it is terminated."""
    logging.disable(logging.INFO)
    Path(os.environ["BENCH_BEGAN"]).write_text(str(time.time()))
    contacts = read("erp.events", Contact)
    result = contacts if task == "w1" else joined(contacts)
    server = urlsplit(os.environ["MESH_DATABASE_URL"])
    pw.io.postgres.write(
        result,
        {
            "host": str(server.hostname),
            "port": str(server.port),
            "dbname": server.path[1:],
            "user": str(server.username),
            "password": str(server.password),
        },
        "projected",
        output_table_type="snapshot",
        primary_key=[result.cid],
        max_batch_size=10_000,
    )
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(sys.argv[1])
