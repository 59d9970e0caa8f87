"""The Kafka and Postgres that tests run against: the environment's, else Docker's, else the local stack.

`MESH_TEST_DATABASE_URL` and `MESH_TEST_KAFKA_BOOTSTRAP_SERVERS` (both or neither) give them; tests then
delete every topic that they find. Else each pytest process has services of its own, so that parallel workers
do not meet in topics whose names are fixed, such as `mesh.events`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import psycopg
from kafka.admin import KafkaAdminClient
from psycopg import sql
from pydantic import SecretStr

from mesh_core import stack
from mesh_core.settings import PREFIX, ROOT, Settings
from mesh_core.stack.locks import exclusive

_STACKS = ROOT / ".mesh" / "test-stack"
_QUICK: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "30s",
}
"""Tests do not survive a power cut; a killed server loses nothing without the first two. And each test has a database."""


@dataclass(frozen=True)
class Services:
    """Where the services are; the URL's database is for administration, each test makes its own."""

    database_url: str
    kafka_bootstrap_servers: str
    origin: Literal["environment", "docker", "local"]


@contextmanager
def running_services() -> Iterator[Services]:
    """The services for a whole session, chosen as the module says."""
    database = os.environ.get("MESH_TEST_DATABASE_URL")
    brokers = os.environ.get("MESH_TEST_KAFKA_BOOTSTRAP_SERVERS")
    if bool(database) != bool(brokers):
        raise RuntimeError(
            "Set both MESH_TEST_DATABASE_URL and MESH_TEST_KAFKA_BOOTSTRAP_SERVERS, or neither."
        )
    if database and brokers:
        yield Services(database, brokers, "environment")
    elif docker_answers():
        with _containers() as services:
            yield services
    else:
        with private_stack(_QUICK) as (_, addresses):
            yield Services(addresses.database_url, addresses.kafka_bootstrap_servers, "local")


def docker_answers() -> bool:
    """Whether a Docker engine can be used."""
    if shutil.which("docker") is None:
        return False
    # Its Python client leaves a socket open when no engine answers.
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=10).returncode == 0


@contextmanager
def _containers() -> Iterator[Services]:
    from testcontainers.community.kafka import KafkaContainer
    from testcontainers.community.postgres import PostgresContainer

    with ExitStack() as containers:
        broker = KafkaContainer("confluentinc/cp-kafka:8.1.0").with_kraft()
        containers.enter_context(broker.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false"))
        database = containers.enter_context(PostgresContainer("postgres:18", driver=None))
        yield Services(database.get_connection_url(), broker.get_bootstrap_server(), "docker")


@contextmanager
def private_stack(
    postgres_settings: Mapping[str, str] | None = None,
) -> Iterator[tuple[Path, stack.StackAddresses]]:
    """A running local stack in a folder of its own, gone afterwards: at the next one, if we are killed."""
    _sweep()
    folder = _STACKS / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with exclusive(folder.with_suffix(".alive")):
        try:
            yield folder, stack.start(folder, postgres_settings=postgres_settings)
        finally:
            _remove(folder)


def _sweep() -> None:
    """Ends the stacks of test runs that were killed: the kernel has freed their locks."""
    for alive in _STACKS.glob("*.alive"):
        try:
            with exclusive(alive, timeout_seconds=0):
                _remove(alive.with_suffix(""))
        except stack.StackBusy:
            continue


def _remove(folder: Path) -> None:
    stack.reset(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".alive").unlink(missing_ok=True)


@contextmanager
def fresh_database(services_url: str, like: str | None = None) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards with whatever is still connected.

    Or of one that is as the database at `like` is, to which nobody may be connected.
    """
    template = urlsplit(like).path[1:] if like else "template0"
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(services_url, autocommit=True) as connection:
        # By files, for its blocks need not pass through the log: it takes half as long, a thousand times.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield urlunsplit(urlsplit(services_url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(services_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


def delete_all_topics(bootstrap_servers: str) -> None:
    """Leaves the broker without topics, save Kafka's own."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        if topics := [topic for topic in admin.list_topics() if not topic.startswith("__")]:
            admin.delete_topics(topics)
    finally:
        admin.close()


@contextmanager
def fresh_settings(services: Services, **more: Any) -> Iterator[Settings]:
    """Settings of a mesh of one's own: no topics, an empty database, a fresh consumer group, and `more`."""
    delete_all_topics(services.kafka_bootstrap_servers)
    with fresh_database(services.database_url) as url:
        yield Settings(
            database_url=SecretStr(url),
            kafka_bootstrap_servers=services.kafka_bootstrap_servers,
            group=f"group{uuid.uuid4()}",
            projector_metrics_port=0,
            api_port=0,
            **{"auth_anonymous_role": "admin", "projector_poll_seconds": 0.1} | more,
        )


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a subprocess, such as `mesh`, the settings of a test, on top of ours."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in given.items()
    }
    return os.environ | {
        PREFIX + name.upper(): str(value) for name, value in plain.items() if value is not None
    }
