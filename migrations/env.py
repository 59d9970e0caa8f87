"""Runs migrations of the control schema on the connection that `mesh_core.store.migrate` hands over."""

from alembic import context
from sqlalchemy import create_engine

from mesh_core.store.control import metadata
from mesh_core.store.schemas import CONTROL


def _run(connection) -> None:  # type: ignore[no-untyped-def]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=CONTROL,
        include_schemas=True,
        include_name=lambda name, kind, parents: kind != "schema" or name == CONTROL,
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    _run(connection)
else:  # `alembic revision --autogenerate` and the like, on the database of the settings
    from mesh_core.settings import load_settings
    from mesh_core.stack import resolve

    database_url, _ = resolve(load_settings())
    with create_engine(database_url).connect() as own:
        _run(own)
