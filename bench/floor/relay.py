"""The straight way to relay an outbox: read what is not published, send it, wait, mark it.

DRIVER=confluent-kafka python -m bench.floor.relay
"""

from __future__ import annotations

import os

import psycopg

from bench.events_catalog import PaymentMade
from mesh_core.log import KafkaConfig, connect

BATCH = 5_000


def main() -> None:
    """Until nothing is left."""
    config = KafkaConfig(os.environ["MESH_KAFKA_BOOTSTRAP_SERVERS"], driver=os.environ["DRIVER"])
    with (
        psycopg.connect(os.environ["OUTBOX_URL"], autocommit=True) as connection,
        connect(config).producer() as producer,
    ):
        connection.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
        connection.execute("INSERT INTO outbox_relay VALUES (1, 0, 0, 1, now())")
        while True:
            rows = connection.execute(
                "SELECT position, aggregateid, payload::text, id::text, type FROM outbox "
                "WHERE sequence IS NULL AND refused IS NULL ORDER BY position LIMIT %s",
                (BATCH,),
            ).fetchall()
            if not rows:
                return
            sent = [
                producer.send(
                    PaymentMade.topic,
                    key.encode(),
                    f'{{"id":"{id_}","type":"{type_}","data":{data}}}'.encode(),
                )
                for _, key, data, id_, type_ in rows
            ]
            for each in sent:
                each.result(30)
            connection.execute(
                "UPDATE outbox SET sequence = position WHERE sequence IS NULL AND refused IS NULL AND position = ANY(%s)",
                ([row[0] for row in rows],),
            )


if __name__ == "__main__":
    main()
