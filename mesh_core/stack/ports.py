"""Loopback ports, remembered in the stack's folder so that addresses survive a restart."""

from __future__ import annotations

import json
import random
import socket
import time
from pathlib import Path

from mesh_core.stack.errors import StackError
from mesh_core.stack.files import write_atomically

LOOPBACK = "127.0.0.1"
# Below the ephemeral ranges of Linux and macOS: a client that retries a stopped service on an ephemeral port
# can connect to itself and so take the port away for good.
_RANGE = range(20_000, 30_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # else a closed connection's TIME_WAIT refuses
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def remembered(file: Path) -> dict[str, int]:
    """The ports in `file`, by name; none if it is absent or damaged."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(name): port for name, port in content.items() if isinstance(port, int)}


def choose(file: Path, names: tuple[str, ...]) -> dict[str, int]:
    """A free port for each name: the one in `file` where it is free, else another, put there."""
    known = remembered(file)
    chosen: dict[str, int] = {}
    for name in names:
        port = known.get(name)
        chosen[name] = port if port is not None and is_free(port) else _another(set(chosen.values()))
    if chosen != known:
        write_atomically(file, json.dumps(chosen))
    return chosen


def wait_free(file: Path, seconds: float = 3.0) -> None:
    """Waits until the ports in `file` are free: a killed server's are closed a moment after it is gone."""
    deadline = time.monotonic() + seconds
    while not all(is_free(port) for port in remembered(file).values()) and time.monotonic() < deadline:
        time.sleep(0.01)


def _another(taken: set[int]) -> int:
    for port in random.sample(_RANGE, 200):
        if port not in taken and is_free(port):
            return port
    raise StackError(f"No free port was found between {_RANGE.start} and {_RANGE.stop}.")
