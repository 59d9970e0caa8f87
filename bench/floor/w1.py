"""The floor of W1: consume, decode every event, keep the last state a key, COPY, upsert, checkpoint, commit.

It knows nothing of bad events, contracts, versions, views, rebalances or a second process.

    python -m bench.floor.w1 prepare    # the empty tables
    python -m bench.floor.w1            # runs until it is terminated
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg

TOPIC = "erp.events"
CONTACT_COLUMNS = "id bigint PRIMARY KEY, org_id bigint, name text, email text, status text, version bigint"
TRANSACTION = int(os.environ.get("BENCH_FLOOR_TRANSACTION", 20_000))
"""The most events in one transaction."""

Batch = tuple[list[bytes], dict[int, int]]
"""Values in order, and the next offset by partition."""


class Contact(msgspec.Struct, gc=False):
    """What the table keeps of an event's payload."""

    id: int
    org_id: int
    name: str
    email: str
    status: str
    version: int


class Event(msgspec.Struct, gc=False):
    """What the script needs of an event."""

    data: Contact


def prepare(connection: psycopg.Connection) -> None:
    """Makes the empty tables."""
    connection.execute(f"CREATE TABLE contact ({CONTACT_COLUMNS})")
    connection.execute("CREATE TABLE checkpoint (partition int PRIMARY KEY, next_offset bigint)")


def project(connection: psycopg.Connection, batches: Iterator[Batch]) -> None:
    """One transaction a batch, for ever."""
    decode = msgspec.json.Decoder(Event).decode
    connection.execute("CREATE TEMP TABLE staged (LIKE contact INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
    connection.commit()
    for values, offsets in batches:
        last: dict[int, Contact] = {}
        for value in values:
            contact = decode(value).data
            last[contact.id] = contact
        with connection.cursor() as cursor:
            with cursor.copy("COPY staged FROM STDIN") as copy:
                copy.write("".join([_line(contact) for contact in last.values()]))
            cursor.execute(
                "INSERT INTO contact SELECT * FROM staged ON CONFLICT (id) DO UPDATE SET "
                "org_id = excluded.org_id, name = excluded.name, email = excluded.email, "
                "status = excluded.status, version = excluded.version"
            )
            cursor.executemany(
                "INSERT INTO checkpoint VALUES (%s, %s) "
                "ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset",
                list(offsets.items()),
            )
        connection.commit()


_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _line(contact: Contact) -> str:
    name, email, status = (text.translate(_ESCAPED) for text in (contact.name, contact.email, contact.status))
    return f"{contact.id}\t{contact.org_id}\t{name}\t{email}\t{status}\t{contact.version}\n"


def kafka_python(bootstrap: str) -> Iterator[Batch]:
    """Batches of the whole topic, by kafka-python."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=8 << 20,
        max_poll_records=10_000,
    )
    consumer.assign([TopicPartition(TOPIC, part) for part in sorted(consumer.partitions_for_topic(TOPIC))])
    consumer.seek_to_beginning()
    while True:
        values: list[bytes] = []
        offsets: dict[int, int] = {}
        while len(values) < TRANSACTION:
            before = len(values)
            for part, records in consumer.poll(50, max_records=min(10_000, TRANSACTION - before)).items():
                values += [record.value for record in records]
                offsets[part.partition] = records[-1].offset + 1
            if len(values) - before < 500 and values:
                break
        yield values, offsets


def confluent_kafka(bootstrap: str) -> Iterator[Batch]:
    """Batches of the whole topic, by confluent-kafka."""
    from confluent_kafka import Consumer, TopicPartition

    consumer: Any = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "floor",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
            "max.partition.fetch.bytes": 8 << 20,
            "queued.min.messages": 200_000,
            "queued.max.messages.kbytes": 256 << 10,
        }
    )
    partitions = consumer.list_topics(TOPIC, 10).topics[TOPIC].partitions
    consumer.assign([TopicPartition(TOPIC, part, 0) for part in partitions])
    while True:
        values: list[bytes] = []
        offsets: dict[int, int] = {}
        while len(values) < TRANSACTION:
            messages = consumer.consume(min(10_000, TRANSACTION - len(values)), 0.05)
            if bad := [message.error() for message in messages if message.error()]:
                raise RuntimeError(str(bad[0]))
            values += [message.value() for message in messages]
            offsets.update({message.partition(): message.offset() + 1 for message in messages})
            if len(messages) < 2_000 and values:
                break
        yield values, offsets


def main() -> None:
    """Reads `MESH_DATABASE_URL`, `MESH_KAFKA_BOOTSTRAP_SERVERS`, `MESH_KAFKA_DRIVER`, `BENCH_BEGAN`."""
    with psycopg.connect(os.environ["MESH_DATABASE_URL"]) as connection:
        if sys.argv[1:] == ["prepare"]:
            prepare(connection)
            return
        consume = kafka_python if os.environ["MESH_KAFKA_DRIVER"] == "kafka-python" else confluent_kafka
        Path(os.environ["BENCH_BEGAN"]).write_text(str(time.time()))
        project(connection, consume(os.environ["MESH_KAFKA_BOOTSTRAP_SERVERS"]))


if __name__ == "__main__":
    main()
