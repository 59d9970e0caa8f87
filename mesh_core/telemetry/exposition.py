"""`/metrics`, `/livez` and `/readyz` of a projector or a relay, without a web framework, on loopback only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from mesh_core.errors import MeshError
from mesh_core.telemetry.logs import get_logger
from mesh_core.telemetry.metrics import PROJECTOR

Readiness = Callable[[], Sequence[str]]
"""Why the process is not ready, a sentence each; empty when it is. Called from other threads."""


class MetricsPortTaken(MeshError):
    """The port for metrics is taken."""


class MetricsServer:
    """Serves until `close`; `port` is where."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self.port: int = server.server_address[1]
        self._thread = Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; within a tenth of a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(
    port: int,
    readiness: Readiness = lambda: (),
    registry: CollectorRegistry = PROJECTOR,
    setting: str = "MESH_PROJECTOR_METRICS_PORT",
) -> MetricsServer:
    """Serve a registry on 127.0.0.1; port 0 takes any free one. Raises MetricsPortTaken, which names the setting."""

    class Handler(_Handler):
        pass

    Handler.readiness = staticmethod(readiness)
    Handler.registry = registry
    try:
        return MetricsServer(ThreadingHTTPServer(("127.0.0.1", port), Handler))
    except OSError as error:
        raise MetricsPortTaken(
            f"Port {port} for metrics cannot be used: {error.strerror}.",
            remedy=f"Set {setting} to another one, or to 0 for none.",
        ) from error


@contextmanager
def metrics_served(
    port: int,
    readiness: Readiness,
    registry: CollectorRegistry = PROJECTOR,
    setting: str = "MESH_PROJECTOR_METRICS_PORT",
) -> Iterator[None]:
    """Serve a registry meanwhile, unless the port is 0; one that is taken is a warning, no reason not to work."""
    server = None
    if port != 0:
        try:
            server = serve_metrics(port, readiness, registry, setting)
        except MetricsPortTaken as error:
            get_logger(__name__).warning("no metrics", reason=str(error))
    try:
        yield
    finally:
        if server is not None:
            server.close()


class _Handler(BaseHTTPRequestHandler):
    readiness: Readiness
    registry: CollectorRegistry
    timeout = 5.0

    def do_GET(self) -> None:
        """Answers the three paths."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.registry))
        elif path == "/livez":
            self._answer(200, "application/json", b'{"status":"alive"}')
        elif path == "/readyz":
            reasons = list(self.readiness())
            body = {"status": "not ready" if reasons else "ready", "reasons": reasons}
            self._answer(503 if reasons else 200, "application/json", json.dumps(body).encode())
        else:
            self._answer(404, "text/plain", b"Served here: /metrics, /livez, /readyz.\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
        """Scrapes are not worth a line."""
