"""Reads run as a role that can read what answers are made of, and rows of others do not get past Postgres itself."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.engine import make_url

from mesh_core.model.grants import claim, column, grant
from mesh_core.read import Database, Paging, list_rows, one_row
from mesh_core.read.errors import NotMigrated, ReadError, ReadUnavailable, RowNotFound
from mesh_core.read.subject import Subject
from mesh_core.store.grants import declare
from mesh_core.store.migrate import SCRIPTS
from mesh_core.store.versions import raise_generation
from tests.read.declarations import Order, deploy_by_hand, insert, order, orders
from tests.support.services import Services, fresh_database

PAGING = Paging(100, 100, b"a key")
MINE = Subject(
    "me", ("customer",), {"customer": "ALFKI", "reference": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}
)


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with fresh_database(services.database_url) as url:
        deploy_by_hand(url)
        own = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
        insert(url, "orders__1", order(1, reference=own), order(2, customer="QUICK"), order(3))
        yield url


def granting(url: str, *grants: object) -> None:
    with psycopg.connect(url) as connection:
        declare(connection, [each.model for each in grants])  # type: ignore[attr-defined]
        raise_generation(connection)


def read(url: str, subject: Subject, key: str | None = None) -> list[int]:
    async def ids() -> list[int]:
        async with Database(url, pool_size=1, statement_timeout_seconds=5) as database:
            reader = database.as_seen_by(subject)
            if key is not None:
                return [json.loads((await one_row(reader, "orders", key)).body)["order_id"]]
            page = await list_rows(reader, "orders", [], PAGING)
            return [row["order_id"] for row in json.loads(page.body)]

    return asyncio.run(ids())


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM data.orders__1",
        "SELECT * FROM data.sales_order__1",
        "SELECT * FROM mesh.last_sequences",
        "SELECT * FROM mesh.dead_letter_decisions",
        "DELETE FROM read.orders__1",
        "UPDATE mesh.generation SET value = 0",
        "INSERT INTO mesh.declared_grants VALUES ('{}')",
        "CREATE TABLE read.mine (x int)",
    ],
)
def test_the_reader_can_do_nothing_else(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET ROLE mesh_reader")
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable)):
            connection.execute(statement)


def test_every_connection_of_reads_is_that_role(url: str) -> None:
    async def role() -> str:
        async with (
            Database(url, pool_size=1, statement_timeout_seconds=5) as database,
            database.as_itself.snapshot() as (_, connection),
        ):
            row = await (await connection.execute("SELECT current_user")).fetchone()
            assert row is not None
            return str(row[0])

    assert asyncio.run(role()) == "mesh_reader"


def test_without_its_setting_nothing_is_let_through(url: str) -> None:
    def ids(rows: str | None) -> list[int]:
        with psycopg.connect(url) as connection:
            if rows is not None:
                connection.execute("SELECT set_config('mesh.rows', %s, true)", (rows,))
            found = connection.execute(
                "SELECT order_id FROM read.ruled_orders__1 ORDER BY order_id"
            ).fetchall()
            return [order_id for (order_id,) in found]

    for rows in (
        None,
        "",
        "{}",
        '{"orders__1": []}',
        '{"orders__1": [[]]}',
        '{"orders__2": [[[["customer", ["ALFKI"]]]]]}',
    ):
        assert ids(rows) == [], rows
    assert ids('{"orders__1": [[[["customer", ["ALFKI"]]]]]}') == [1, 3]
    assert ids('{"orders__1": [[[]]]}') == [1, 2, 3]
    assert ids('{"orders__1": [[[["customer", ["ALFKI"]]]], [[["order_id", [3]]]]]}') == [3]
    assert ids('{"orders__1": [[[["customer", [null]]]]]}') == []


def test_a_mistake_of_the_compiler_shows_no_row_of_others(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    granting(url, grant(orders, "customer", where=claim("customer") == column("customer")))
    monkeypatch.setattr("mesh_core.read.access._written", lambda writer, rule: "true")
    assert read(url, MINE) == [1, 3]
    with pytest.raises(RowNotFound):
        read(url, MINE, "2")


def test_both_locks_agree_on_each_kind_of_value(url: str) -> None:
    for where, expected in (
        (claim("reference") == column("reference"), [1]),
        (column("order_id") == 2, [2]),
        (column("total") == 440, [1, 2, 3]),
        (column("express") == False, [1, 2, 3]),  # noqa: E712  # it builds a condition
        ((column("customer") == "ALFKI") & (column("order_id") == 3), [3]),
    ):
        granting(url, grant(orders, "customer", where=where))
        assert read(url, MINE) == expected
    granting(url, grant(orders, "customer"), grant(Order, "customer", where=column("customer") == "QUICK"))
    assert read(url, MINE) == [2]


def test_a_login_that_is_no_superuser(services: Services) -> None:
    """It owns the tables, and row-level security is none for owners: the views are not its own."""
    name = f"login_{uuid.uuid4().hex[:8]}"
    with fresh_database(services.database_url) as url:
        database = make_url(url).database
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' NOSUPERUSER")
            connection.execute(f"GRANT mesh_reader, mesh_ruled TO {name} WITH SET TRUE, INHERIT FALSE")
            connection.execute(f"ALTER DATABASE {database} OWNER TO {name}")
        own = make_url(url).set(username=name, password="x").render_as_string(hide_password=False)
        try:
            deploy_by_hand(own)
            insert(own, "orders__1", order(1), order(2, customer="QUICK"))
            granting(own, grant(orders, "customer", where=claim("customer") == column("customer")))
            assert read(own, MINE) == [1]
            with psycopg.connect(own) as connection:
                assert connection.execute("SELECT count(*) FROM data.orders__1").fetchone() == (2,)
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
                connection.execute(f"DROP OWNED BY {name}")
                connection.execute(f"ALTER DATABASE {database} OWNER TO CURRENT_USER")
                connection.execute(f"DROP ROLE {name}")


def refused(url: str) -> ReadError:
    async def reading() -> None:
        async with (
            Database(url, pool_size=1, statement_timeout_seconds=5) as database,
            database.as_itself.snapshot(),
        ):
            pass

    with pytest.raises(ReadError) as caught:
        asyncio.run(reading())
    return caught.value


def test_a_login_that_may_not_take_the_role_is_told_how(url: str) -> None:
    name = f"login_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        try:
            error = refused(make_url(url).set(username=name, password="x").render_as_string(False))
        finally:
            connection.execute(f"DROP ROLE {name}")
    assert isinstance(error, ReadUnavailable)
    assert f"GRANT mesh_reader, mesh_ruled TO {name}" in str(error)


def test_an_older_revision_asks_for_a_migration(url: str) -> None:
    """The role may be there already: roles are those of all databases."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("REVOKE USAGE ON SCHEMA mesh FROM mesh_reader")
        try:
            error = refused(url)
        finally:
            connection.execute("GRANT USAGE ON SCHEMA mesh TO mesh_reader")
    assert isinstance(error, NotMigrated)
    assert "mesh migrate" in str(error)


def test_a_connection_from_before_the_migration_is_that_role_too(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def role(url: str) -> tuple[str]:
        async with Database(url, pool_size=1, statement_timeout_seconds=5) as database:
            with monkeypatch.context() as patched:
                # The tests' Postgres has the role already, and other databases that depend on it.
                patched.setattr("mesh_core.read.connections.ROLE_OF_READS", "not_made_yet")
                with pytest.raises(NotMigrated):
                    async with database.as_itself.snapshot():
                        pass
            await asyncio.to_thread(deploy_by_hand, url)
            async with database.as_itself.snapshot() as (_, connection):
                cursor = await connection.execute("SELECT current_user")
                found = await cursor.fetchone()
                assert found
                return found

    with fresh_database(services.database_url) as url:
        assert asyncio.run(role(url)) == ("mesh_reader",)


def test_several_migrations_make_the_roles_at_once(services: Services) -> None:
    """As those of several databases do, which have no lock in common."""
    spec = importlib.util.spec_from_file_location("reader", SCRIPTS / "versions" / "0010_reader.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tag = uuid.uuid4().hex[:8]
    login, reader, ruled = (f"{stem}_{tag}" for stem in ("login", "reader", "ruled"))
    statement = module.ROLES.replace("mesh_reader", reader).replace("mesh_ruled", ruled)
    own = make_url(services.database_url).set(username=login, password="x").render_as_string(False)
    together = threading.Barrier(4)
    errors: list[psycopg.Error] = []

    def make() -> None:
        with psycopg.connect(own, autocommit=True) as connection:
            together.wait(30)
            try:
                connection.execute(statement)
                connection.execute(f"SET ROLE {reader}")
            except psycopg.Error as error:
                errors.append(error)

    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {login} LOGIN CREATEROLE PASSWORD 'x'")
        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        connection.execute(f"DROP ROLE {reader}, {ruled}, {login}")
    assert errors == []
