"""W1 by Bytewax: its Kafka source, its batches, and a sink for Postgres that we had to write.

python -m bytewax.run bench.peers.by_bytewax:flow    # in the environment of requirements/bench-peers
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import bytewax.operators as op
import psycopg
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import OFFSET_BEGINNING

from bench.floor.payloads import Contact, last_states
from bench.floor.writing import copy

BATCH = 10_000
_UPSERT = """
INSERT INTO projected SELECT * FROM staged ON CONFLICT (cid) DO UPDATE SET org_id = excluded.org_id,
    name = excluded.name, email = excluded.email, status = excluded.status, version = excluded.version
"""


class Upserts(StatelessSinkPartition[Contact]):  # type: ignore[misc]
    """A transaction a batch."""

    def __init__(self) -> None:
        self._connection = psycopg.connect(os.environ["MESH_DATABASE_URL"])
        self._connection.execute("CREATE TEMP TABLE staged (LIKE projected) ON COMMIT DELETE ROWS")
        self._connection.commit()

    def write_batch(self, items: list[Contact]) -> None:
        """Upsert the last state of each."""
        with self._connection.cursor() as cursor:
            copy(cursor, "staged", [contact.line() for contact in {c.id: c for c in items}.values()])
            cursor.execute(_UPSERT)
        self._connection.commit()


class PostgresSink(DynamicSink[Contact]):  # type: ignore[misc]
    """A connection a worker."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Upserts:
        """See `DynamicSink.build`."""
        return Upserts()


_fold = last_states(Contact)


def _decoded(messages: list[Any]) -> list[Contact]:
    return list(_fold(message.value for message in messages).values())


Path(os.environ["BENCH_BEGAN"]).write_text(str(time.time()))
flow = Dataflow("contacts")
_source = KafkaSource(
    [os.environ["MESH_KAFKA_BOOTSTRAP_SERVERS"]],
    ["erp.events"],
    starting_offset=OFFSET_BEGINNING,
    batch_size=BATCH,
    add_config={
        "group.id": f"bytewax-{uuid.uuid4()}",
        "fetch.wait.max.ms": "20",
        "max.partition.fetch.bytes": "8388608",
    },
)
op.output("out", op.flat_map_batch("decode", op.input("in", flow, _source), _decoded), PostgresSink())
