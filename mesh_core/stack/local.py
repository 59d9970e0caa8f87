"""The local stack as a whole: both services of one folder, started side by side under one lock."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mesh_core.settings import Settings
from mesh_core.stack import kafka, postgres
from mesh_core.stack.errors import StackNotRunning
from mesh_core.stack.locks import exclusive


@dataclass(frozen=True)
class StackAddresses:
    """Where the services are."""

    database_url: str
    """With the password: never print it whole."""
    kafka_bootstrap_servers: str


@dataclass(frozen=True)
class ServiceStatus:
    """One service of the stack as it is now; `address` has no password, and is None if it does not answer."""

    name: str
    running: bool
    address: str | None
    pid: int | None
    folder: Path


def start(directory: Path, *, postgres_settings: Mapping[str, str] | None = None) -> StackAddresses:
    """Starts what does not run of the stack in `directory`, made if absent. It outlives this process.

    `postgres_settings` are of postgresql.conf, and take effect when Postgres is started. Raises
    MissingPrerequisite, ServiceFailed, StackBusy.
    """
    with exclusive(directory / "lock"), ThreadPoolExecutor(2) as pool:
        database = pool.submit(postgres.start, directory, postgres_settings)
        broker = pool.submit(kafka.start, directory)
        return StackAddresses(database.result(), broker.result())


def stop(directory: Path) -> None:
    """Stops both services in order; their data and ports stay."""
    with exclusive(directory / "lock"), ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(kafka.stop, directory), pool.submit(postgres.stop, directory)]:
            done.result()


def status(directory: Path) -> tuple[ServiceStatus, ...]:
    """Kafka, then Postgres, as they are now."""
    database = postgres.address(directory)
    return (
        _status("kafka", kafka.address(directory), kafka.pid(directory), directory),
        _status("postgres", database and database.split("@")[1], postgres.pid(directory), directory),
    )


def reset(directory: Path) -> None:
    """Ends both services and forgets their data; the next start is from nothing."""
    with exclusive(directory / "lock"):
        for service in (kafka, postgres):
            service.kill(directory)
            shutil.rmtree(directory / service.__name__.rsplit(".", 1)[1], ignore_errors=True)


def addresses(directory: Path) -> StackAddresses | None:
    """Where the running stack is; None unless both services answer."""
    database, broker = postgres.address(directory), kafka.address(directory)
    return StackAddresses(database, broker) if database and broker else None


def resolve(settings: Settings) -> StackAddresses:
    """Where Kafka and Postgres are: as the settings say, else of the running local stack.

    Raises StackNotRunning where neither is there.
    """
    database = settings.database_url.get_secret_value() if settings.database_url else None
    database = database or postgres.address(settings.stack_path)
    if database is None:
        raise _missing("Postgres", settings, "MESH_DATABASE_URL")
    return StackAddresses(database, bootstrap_servers(settings))


def bootstrap_servers(settings: Settings) -> str:
    """Where Kafka is, for what needs no Postgres: as the settings say, else of the local stack.

    Raises StackNotRunning where it is not there.
    """
    broker = settings.kafka_bootstrap_servers or kafka.address(settings.stack_path)
    if broker is None:
        raise _missing("Kafka", settings, "MESH_KAFKA_BOOTSTRAP_SERVERS")
    return broker


def _missing(service: str, settings: Settings, variable: str) -> StackNotRunning:
    return StackNotRunning(
        f"The local {service} in {settings.stack_path} is not running, and {variable} is not set.",
        remedy="Start it: mesh stack up; or set that.",
    )


def _status(name: str, address: str | None, pid: int | None, directory: Path) -> ServiceStatus:
    return ServiceStatus(name, address is not None, address, pid, directory.resolve() / name)
