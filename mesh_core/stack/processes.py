"""Servers that outlive the process that started them, found again by what they run, not by a pid in a file.

A pid file can be stale, half-written, or name a stranger; a command line that contains the stack's own folder
cannot. A zombie counts as gone: it holds no port and no file.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_core.extras import needed
from mesh_core.stack.errors import ServiceFailed
from mesh_core.stack.files import last_lines

if TYPE_CHECKING:
    import psutil


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Starts `command` in a session of its own, an orphan from birth, with its output in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # The shell ends at once, so init adopts the server and no zombie of ours can remain of it.
    subprocess.run(
        ["sh", "-c", 'log=$1; shift; nohup "$@" >"$log" 2>&1 </dev/null &', "sh", str(log), *command],
        check=True,
        start_new_session=True,
        env=dict(environment),
        cwd=folder,
    )


def find(argument: str) -> psutil.Process | None:
    """The running process that has exactly this among its arguments; of a parent and its fork, the parent."""
    ps = needed("psutil")
    found: dict[int, psutil.Process] = {}
    for process in ps.process_iter():
        try:
            # `sh` and `unshare` carry the server's arguments for a moment before they become it.
            if argument in process.cmdline() and process.name() not in ("sh", "unshare", "setpriv", "nohup"):
                found[process.pid] = process
        except ps.Error:
            continue
    for process in found.values():
        try:
            if process.ppid() not in found and process.status() != ps.STATUS_ZOMBIE:
                return process
        except ps.Error:
            continue
    return None


def working_in(folder: Path, name: str) -> list[psutil.Process]:
    """The running processes called `name` whose working folder is `folder`."""
    ps = needed("psutil")
    found = []
    for process in ps.process_iter():
        try:
            if process.name() == name and process.cwd() == str(folder):
                found.append(process)
        except ps.Error:
            continue
    return found


def end(process: psutil.Process, number: signal.Signals, patience_seconds: float) -> None:
    """Sends the signal and waits; then SIGKILL. Raises ServiceFailed if even that does not end it."""
    ps = needed("psutil")
    for attempt, seconds in ((number, patience_seconds), (signal.SIGKILL, 5.0)):
        try:
            process.send_signal(attempt)
        except ps.NoSuchProcess:
            return
        if wait_gone(process, seconds):
            return
    raise ServiceFailed(
        f"Process {process.pid} does not end.", remedy=f"End it by hand: kill -9 {process.pid}"
    )


def wait_gone(process: psutil.Process, seconds: float) -> bool:
    """Whether the process ended, or became a zombie, within `seconds`."""
    ps = needed("psutil")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not process.is_running() or process.status() == ps.STATUS_ZOMBIE:
                return True
        except ps.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def wait_ready(service: str, argument: str, log: Path, ready: Callable[[], bool], seconds: float) -> None:
    """Waits until `ready()`. Raises ServiceFailed, quoting the log, if the process ends before."""
    began = time.monotonic()
    while not ready():
        waited = time.monotonic() - began
        if waited > seconds:
            raise ServiceFailed(
                f"{service} was not ready after {seconds:.0f} seconds: {last_lines(log)}",
                remedy=f"See {log}.",
            )
        if waited > 1.0 and find(argument) is None and not ready():
            raise ServiceFailed(f"{service} ended while it started: {last_lines(log)}", remedy=f"See {log}.")
        time.sleep(0.02)
