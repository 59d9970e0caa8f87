"""The floor of W1: consume, decode every event, keep the last state a key, COPY, upsert, checkpoint, commit.

It knows nothing of bad events, contracts, versions, views, rebalances or a second process.

    python -m bench.floor.w1 prepare    # the empty tables
    python -m bench.floor.w1            # runs until it is terminated
"""

from __future__ import annotations

from bench.floor.consuming import TRANSACTION, Consume
from bench.floor.payloads import CONTACT_COLUMNS, Contact, last_states
from bench.floor.writing import CHECKPOINT, Connection, copy, save, script
from bench.history import CONTACT_TOPIC


def prepare(connection: Connection) -> None:
    """Makes the empty tables."""
    connection.execute(f"CREATE TABLE contact ({CONTACT_COLUMNS})")
    connection.execute(CHECKPOINT)


def project(connection: Connection, consume: Consume) -> None:
    """One transaction a batch, for ever."""
    fold = last_states(Contact)
    connection.execute("CREATE TEMP TABLE staged (LIKE contact INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
    connection.commit()
    for batch in consume([CONTACT_TOPIC], TRANSACTION, False):
        with connection.cursor() as cursor:
            last = fold(batch.values.get(CONTACT_TOPIC, []))
            copy(cursor, "staged", [contact.line() for contact in last.values()])
            cursor.execute(
                "INSERT INTO contact SELECT * FROM staged ON CONFLICT (id) DO UPDATE SET "
                "org_id = excluded.org_id, name = excluded.name, email = excluded.email, "
                "status = excluded.status, version = excluded.version"
            )
            save(cursor, batch.offsets)
        connection.commit()


if __name__ == "__main__":
    script(prepare, project)
