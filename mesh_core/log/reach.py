"""Whether anything listens where Kafka should be."""

from __future__ import annotations

import socket


def reachable(bootstrap: str, timeout: float) -> bool:
    """Whether one of the servers, `host:port[,host:port]`, accepts a connection within `timeout` seconds."""
    return any(_accepts(server.strip(), timeout) for server in bootstrap.split(","))


def _accepts(server: str, timeout: float) -> bool:
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout):
            return True
    except (OSError, ValueError):
        return False
