"""The control schema: Alembic makes what `control.py` says, also when two migrate at once."""

from __future__ import annotations

import threading

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from mesh_core.store.control import metadata
from mesh_core.store.migrate import migrate


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
