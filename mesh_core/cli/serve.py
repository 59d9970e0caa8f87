"""`mesh api`: serves views and workflows over HTTP."""

from __future__ import annotations

import importlib
import signal
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh_core.errors import MeshError, UsageError

if TYPE_CHECKING:
    from mesh_core.settings import Settings

ADMIN = "admin"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
GRACE_SECONDS = 5


class PortTaken(MeshError):
    """The port of the API is taken."""

    exit_status = 3


def register(app: typer.Typer) -> None:
    """Adds the command `api`."""
    app.command("api")(api)


def api(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; beyond loopback only where tokens are verified.")
    ] = None,
) -> None:
    """Serve the API until SIGTERM or Ctrl-C; requests under way are answered first.

    Example: mesh api --port 8000
    """
    from mesh_core.settings import load_settings
    from mesh_core.telemetry import configure_logging, get_logger
    from mesh_core.tokens import key_of

    settings = load_settings()
    configure_logging(settings)
    host = settings.api_host if host is None else host
    check_reach(settings, host)
    bound = bind(host, settings.api_port if port is None else port)
    server = server_of(importlib.import_module("api.app").create_app(settings))

    def stop(*_: object) -> None:
        """Also takes the signal that uvicorn raises again once it has stopped, so that the exit status is 0."""
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    typer.echo(f"Serving http://{_address(bound)} (documentation at /docs)", err=True)
    if settings.auth_jwks_url is None and key_of(settings) is None:
        get_logger(__name__).warning(
            "no token can be verified: MESH_AUTH_KEY and MESH_AUTH_JWKS_URL are unset"
        )
    server.run(sockets=[bound])
    if not server.started:
        raise typer.Exit(1)


def check_reach(settings: Settings, host: str) -> None:
    """Whether the API may listen there. Raises UsageError where strangers could reach what is not for them."""
    if host in LOOPBACK:
        return
    if settings.auth_anonymous_role == ADMIN:
        raise UsageError(
            f"Whoever sends no token may do everything here, so the API does not listen on {host}.",
            remedy=f"Set MESH_AUTH_ANONYMOUS_ROLE to a role with less, or listen on one of {', '.join(LOOPBACK)}.",
        )
    if settings.auth_key is None and settings.auth_jwks_url is None:
        raise UsageError(
            f"No token can be verified, so the API does not listen on {host}.",
            remedy=f"Set MESH_AUTH_JWKS_URL or MESH_AUTH_KEY, or listen on one of {', '.join(LOOPBACK)}.",
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortTaken(
            f"Port {port} on {host} cannot be used: {error.strerror}.",
            remedy="Give another one with --port or MESH_API_PORT; 0 takes any that is free.",
        ) from None
    bound.listen(2048)
    return bound


def server_of(application: Any) -> Any:
    """A uvicorn server of an ASGI application, which stops cleanly on SIGTERM."""
    import uvicorn

    from mesh_core.cli.joining import JoiningProtocol

    return uvicorn.Server(
        uvicorn.Config(
            application,
            loop="auto",
            http=JoiningProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
