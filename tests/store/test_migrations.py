"""The control schema: Alembic makes what `control.py` says, also when two migrate at once."""

from __future__ import annotations

import threading

import psycopg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg.types.json import Jsonb
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from mesh_core.store.control import metadata
from mesh_core.store.migrate import SCRIPTS, migrate


def migrate_to(database_url: str, revision: str) -> None:
    """As it was when `revision` was the newest."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA mesh"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_migrations_make_what_the_tables_say(database_url: str) -> None:
    migrate(database_url)
    # The schema of a user's own name is where Postgres looks first, and our user is called mesh.
    path = {"options": "-csearch_path=public"}
    engine = create_engine(database_url, poolclass=NullPool, connect_args=path)
    with engine.connect() as connection:
        options = {
            "version_table_schema": "mesh",
            "include_schemas": True,
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == "mesh",
        }
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    assert found == []


def test_migrating_again_changes_nothing(database_url: str) -> None:
    assert migrate(database_url) == migrate(database_url)


SAVED = {
    "kind": "upsert",
    "contract": {"type": "desk.client.saved.v1"},
    "operations": [{"column": "saves", "kind": "add", "window": 100}],
}
MOVED = {
    "kind": "patch",
    "contract": {"type": "desk.client.moved.v1"},
    "operations": [{"column": "city", "kind": "set"}],
}


def test_what_was_parked_before_is_remembered(database_url: str) -> None:
    """By the versions that take it: what repeats it later is no news to them."""
    migrate_to(database_url, "0001")
    with psycopg.connect(database_url) as connection:
        for id_, folds in enumerate(([SAVED, MOVED], [MOVED]), 1):
            connection.execute(
                "INSERT INTO mesh.versions (id, kind, name, number, relation, fingerprint, declaration, topics, state) "
                "VALUES (%s, 'entity', %s, 1, '', '', %s, '{desk.events}', 'live')",
                (id_, f"desk.e{id_}", Jsonb({"folds": folds})),
            )
        connection.execute("INSERT INTO mesh.sequences VALUES (1, 'C1', 3), (2, 'C1', 9)")
        connection.cursor().executemany(
            'INSERT INTO mesh.held_events (topic, "partition", "offset", version_id, topic_id, status, record_key, reason, '
            "detail, timestamp, event_type, event_id, sequence, edited, otherwise, counted) VALUES ('desk.events', 0, "
            "%s, %s, '', %s, 'C1', '', '', 0, %s, %s, %s, %s, 'ignored', 'parked')",
            [
                (0, 0, "dead", None, "e0", 99, None),
                (1, 0, "parked", "desk.client.saved.v1", "e1", None, None),
                (2, 0, "parked", "desk.client.moved.v1", "e2", 5, None),
                (3, 1, "parked", "desk.client.saved.v1", "e1", None, None),
                (4, 1, "parked", "desk.client.moved.v1", "e4", 98, b"{}"),
                (5, 2, "parked", "desk.client.moved.v1", "e5", None, None),
            ],
        )
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        sequences = connection.execute(
            "SELECT version_id, sequence FROM mesh.sequences ORDER BY 1"
        ).fetchall()
        recent = connection.execute('SELECT version_id, event_id, "offset" FROM mesh.recent_ids').fetchall()
    assert sequences == [(1, 5), (2, 9)]
    assert recent == [(1, "e1", 3)]


def test_several_migrate_at_once(database_url: str) -> None:
    reached: list[str] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            reached.append(migrate(database_url))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(reached) == 4
    assert len(set(reached)) == 1
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM mesh.generation").fetchone() == (1,)
