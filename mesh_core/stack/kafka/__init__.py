"""The local Kafka: one JVM that is broker and controller, on loopback."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from mesh_core.stack import ports, processes
from mesh_core.stack.errors import ServiceFailed
from mesh_core.stack.files import require_space, write_atomically
from mesh_core.stack.kafka import configuration, installation
from mesh_core.stack.locks import exclusive

_PORTS = ("broker", "controller")


def start(directory: Path, *, java_options: tuple[str, ...] = ()) -> str:
    """Starts the broker of this stack folder if it does not run. Its bootstrap address, `host:port`.

    The caller holds the stack's lock. Raises MissingPrerequisite, ServiceFailed.
    """
    folder = directory.resolve() / "kafka"
    if processes.find(_marker(folder)) is not None and (running := _answering(folder)):
        return running
    kill(directory)
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder)
    for attempt in (1, 2, 3):
        chosen = ports.choose(folder / "ports.json", _PORTS)
        text = configuration.properties(folder / "data", chosen["broker"], chosen["controller"])
        write_atomically(folder / "server.properties", text)
        try:
            _format(folder)
            _launch(folder, java_options)
        except ServiceFailed as error:
            # Somebody can take a port between our look at it and the broker's.
            if attempt == 3 or "Address already in use" not in str(error):
                raise
            continue
        break
    return f"{ports.LOOPBACK}:{chosen['broker']}"


def stop(directory: Path) -> None:
    """Stops the broker in order, if it runs."""
    _end(directory, signal.SIGTERM)


def kill(directory: Path) -> None:
    """Ends the broker at once, as a crash would."""
    _end(directory, signal.SIGKILL)


def address(directory: Path) -> str | None:
    """The bootstrap address of the running broker; None if it does not run or does not answer."""
    folder = directory.resolve() / "kafka"
    return _answering(folder) if processes.find(_marker(folder)) is not None else None


def pid(directory: Path) -> int | None:
    """The broker's process id; None if it does not run."""
    process = processes.find(_marker(directory.resolve() / "kafka"))
    return process.pid if process else None


def prepare(say: Callable[[str], None]) -> None:
    """Fetches what a broker needs and archives its classes, so that later starts take a second.

    `say` is told what begins now, a line each. Raises MissingPrerequisite, StackError.
    """
    program = installation.java()
    say("Fetching Kafka by Maven …")
    target = installation.archive(program)
    rehearsal = target.parent / "rehearsal"
    temporary = rehearsal / "classes.jsa"
    with exclusive(target.parent / "lock"):
        if target.is_file():
            return
        say("Starting Kafka once, so that it starts faster from now on …")
        try:
            _forget(rehearsal)  # of a killed run
            start(rehearsal, java_options=(f"-XX:ArchiveClassesAtExit={temporary}",))
            stop(rehearsal)
            if temporary.is_file():  # a Java without this feature starts slower, and is none the worse
                temporary.rename(target)
        finally:
            _forget(rehearsal)


def _forget(rehearsal: Path) -> None:
    kill(rehearsal)
    shutil.rmtree(rehearsal, ignore_errors=True)


def _end(directory: Path, number: signal.Signals) -> None:
    folder = directory.resolve() / "kafka"
    if process := processes.find(_marker(folder)):
        processes.end(process, number, patience_seconds=15)
        ports.wait_free(folder / "ports.json")


def _marker(folder: Path) -> str:
    return str(folder / "server.properties")


def _format(folder: Path) -> None:
    """Makes the data folder, in a temporary place first: Kafka does not mend a half-made one."""
    data = folder / "data"
    if (data / "metadata" / "meta.properties").is_file() and (data / "log" / "meta.properties").is_file():
        return
    temporary = folder / "data.part"
    for leftover in (temporary, data):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    draft = temporary / "server.properties"
    draft.write_text(configuration.properties(temporary, 1, 2))
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = installation.command(
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster}",  # one argument, for it may begin with a dash
        "-c",
        str(draft),
        options=configuration.JAVA_OPTIONS,
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceFailed(f"Kafka could not format {data}: {(done.stderr or done.stdout).strip()[-500:]}")
    draft.unlink()
    temporary.rename(data)


def _launch(folder: Path, java_options: tuple[str, ...]) -> None:
    log = folder / "kafka.log"
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    if log.is_file():
        log.replace(folder / "kafka.log.previous")
    options = (*configuration.JAVA_OPTIONS, *java_options, f"-Djava.io.tmpdir={temporary}")
    command = installation.command("kafka.Kafka", _marker(folder), options=options)
    processes.spawn(command, log, os.environ, folder)
    processes.wait_ready(
        "Kafka",
        _marker(folder),
        log,
        lambda: log.is_file() and configuration.STARTED in log.read_text(errors="replace"),
        seconds=60,
    )


def _answering(folder: Path) -> str | None:
    """The address at which the broker answers an ApiVersions request (the first of any Kafka connection)."""
    port = ports.remembered(folder / "ports.json").get("broker")
    if port is None:
        return None
    request = struct.pack(">hhih", 18, 0, 1, -1)  # key, version, correlation id, no client id
    try:
        with socket.create_connection((ports.LOOPBACK, port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(request)) + request)
            if len(connection.recv(8)) < 8:
                return None
    except OSError:
        return None
    return f"{ports.LOOPBACK}:{port}"
