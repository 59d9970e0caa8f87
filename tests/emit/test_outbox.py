from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from mesh_core.emit import bound
from mesh_core.emit.outbox import (
    OutboxSession,
    VersionConflict,
    add_event,
    outbox_sql,
    outbox_table,
)
from mesh_core.emit.outbox.asynchronous import AsyncOutboxSession
from mesh_core.errors import MeshError, UsageError
from mesh_core.log import EnvelopeError
from tests.emit.outboxes import Paid

WORKFLOW = UUID("0198c0de-0000-7000-8000-000000000001")
PAID = Paid(account="a,%", amount=Decimal("14.000"))


def sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlalchemy_url(database_url))
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: sa.Engine) -> sessionmaker[OutboxSession]:
    metadata = sa.MetaData()
    table = outbox_table(metadata)
    metadata.create_all(engine)
    return sessionmaker(engine, class_=OutboxSession, info={"outbox": table})


def rows(database_url: str, columns: str = "aggregateid") -> list[Any]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(f"SELECT {columns} FROM outbox ORDER BY position").fetchall()


def described(connection: psycopg.Connection[Any], schema: str, name: str) -> list[Any]:
    """All that Postgres knows of an outbox, without its name and schema."""
    found = connection.execute(
        """
        SELECT c.table_name::text, column_name::text, ordinal_position, data_type, is_nullable, column_default, is_identity
        FROM information_schema.columns c WHERE table_schema = %(schema)s
        UNION ALL SELECT tablename::text, indexdef, 0, '', '', '', '' FROM pg_indexes WHERE schemaname = %(schema)s
        UNION ALL SELECT event_object_table::text, action_statement, 0, event_manipulation, action_timing, action_orientation, ''
            FROM information_schema.triggers WHERE event_object_schema = %(schema)s
        UNION ALL SELECT '', p.prosrc, 0, '', '', '', '' FROM pg_proc p WHERE pronamespace = %(schema)s::regnamespace
        UNION ALL SELECT conrelid::regclass::text, pg_get_constraintdef(oid), 0, contype::text, '', '', ''
            FROM pg_constraint WHERE connamespace = %(schema)s::regnamespace
        ORDER BY 1, 2, 3
        """,
        {"schema": schema},
    ).fetchall()
    return [
        tuple(str(value).replace(f"{schema}.", "").replace(name, "outbox") for value in row) for row in found
    ]


def test_the_sql_and_the_metadata_make_the_same(engine: sa.Engine, database_url: str) -> None:
    metadata = sa.MetaData()
    outbox_table(metadata, "events_out", "first")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA first; CREATE SCHEMA second")
        metadata.create_all(engine)
        connection.execute(outbox_sql("second.outgoing"))
        assert described(connection, "first", "events_out") == described(connection, "second", "outgoing")
        metadata.drop_all(engine)
        assert described(connection, "first", "events_out") == []
        connection.execute(outbox_sql())


def test_a_name_that_is_no_plain_name_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be the name of an outbox"):
        outbox_sql("outbox; DROP TABLE orders")


def test_an_event_is_written_with_the_transaction(
    sessions: sessionmaker[OutboxSession], database_url: str
) -> None:
    at = datetime(2020, 5, 17, 8, 30, tzinfo=UTC)
    with (
        bound(
            correlation_id="request-9", causation_id="event-8", tenant_id="acme", workflow_id=str(WORKFLOW)
        ),
        sessions.begin() as session,
    ):
        identifier = session.add_event(PAID, time=at, expected_version=3)
        session.flush()
        assert rows(database_url) == []
    found = rows(
        database_url,
        "id, aggregatetype, aggregateid, type, payload::text, workflow_id, headers, aggregateversion, occurred_at",
    )
    assert found == [
        (
            identifier,
            "account",
            "a,%",
            "outboxed.account.paid.v1",
            '{"one": 1, "amount": 14.000, "number": 0, "account": "a,%"}',
            WORKFLOW,
            {"correlationid": "request-9", "causationid": "event-8", "tenantid": "acme"},
            4,
            at,
        )
    ]


def test_what_is_rolled_back_is_not_written(sessions: sessionmaker[OutboxSession], database_url: str) -> None:
    with sessions() as session:
        session.add_event(PAID.model_copy(update={"account": "whole"}))
        session.rollback()
        session.add_event(PAID.model_copy(update={"account": "kept"}))
        with session.begin_nested() as savepoint:
            session.add_event(PAID.model_copy(update={"account": "part"}))
            session.flush()
            savepoint.rollback()
        session.commit()
    assert rows(database_url) == [("kept",)]


def test_of_two_that_expect_the_same_version_one_is_told(
    sessions: sessionmaker[OutboxSession], database_url: str
) -> None:
    with sessions() as first, sessions() as second:
        for session in (first, second):
            session.add_event(PAID, expected_version=0)
        first.commit()
        with pytest.raises(VersionConflict, match="Load it again"):
            second.commit()
    with psycopg.connect(database_url) as connection:
        with pytest.raises(VersionConflict):
            add_event(connection, PAID, expected_version=0)
        connection.rollback()
        add_event(connection, PAID, expected_version=1)
    assert rows(database_url, "aggregateversion") == [(1,), (2,)]


def test_an_asynchronous_session_and_a_plain_connection_write_the_same(
    sessions: sessionmaker[OutboxSession], database_url: str
) -> None:
    identifier, at = uuid.uuid4(), datetime.now(UTC)
    options: dict[str, Any] = {"time": at, "correlation_id": "c", "workflow_id": WORKFLOW, "tenant_id": "t"}
    with sessions.begin() as session:
        session.add_event(PAID, id=identifier, **options)
    outbox = session.info["outbox"]

    async def write() -> None:
        engine = create_async_engine(sqlalchemy_url(database_url))
        making = async_sessionmaker(engine, class_=AsyncOutboxSession, info={"outbox": outbox})
        async with making.begin() as session:
            session.add_event(PAID, **options)
        await engine.dispose()

    asyncio.run(write())
    with psycopg.connect(database_url) as connection:
        add_event(connection, PAID, **options)
    columns = (
        "aggregatetype, aggregateid, type, payload::text, workflow_id, headers, aggregateversion, occurred_at"
    )
    found = rows(database_url, columns)
    assert len(found) == 3
    assert found[0] == found[1] == found[2]


def test_what_could_never_be_published_is_refused_at_once(sessions: sessionmaker[OutboxSession]) -> None:
    with sessions() as session:
        with pytest.raises(EnvelopeError, match="lone surrogate"):
            session.add_event(PAID.model_copy(update={"account": "\ud800"}))
        with pytest.raises(EnvelopeError, match="by key_fields"):
            session.add_event(PAID, key="b")
        with pytest.raises(EnvelopeError, match="513 bytes"):
            session.add_event(PAID.model_copy(update={"account": "k" * 513}))
    with OutboxSession() as other, pytest.raises(MeshError, match="knows of no outbox"):
        other.add_event(PAID)
