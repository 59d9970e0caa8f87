"""`mesh demo`: the whole path on real input, in one command."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_core.cli.output import print_table
from mesh_core.errors import MeshError

if TYPE_CHECKING:
    from mesh_core.cli.surroundings import Surroundings
    from mesh_core.settings import Settings

LOOPBACK = "127.0.0.1"
ANONYMOUS = "anonymous"
"""The role of whoever asks the demo without a token."""
PAGES = "http://127.0.0.1:8080,http://localhost:8080"
"""Where the page of examples/orders is served: it may read the demo."""


class NotRight(MeshError):
    """What is served is not what it should be."""


class PortTaken(MeshError):
    """The port of the demo's API is taken."""

    exit_status = 3


def register(app: typer.Typer) -> None:
    """Adds the command `demo`."""
    app.command("demo")(demo)


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="Compare what is served with what it should be, then stop.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the API; 8000 by default.")
    ] = None,
) -> None:
    """Northwind on real Kafka and Postgres, served: start what does not run, publish, project, serve.

    Runs until Ctrl-C. With --exit it compares the orders of order_overview with the CSV files and all views with
    their definitions, then stops what it started; exit status 0 only if all is right. A second run finds
    what the first one published.

    Example: mesh demo --exit
    """
    from mesh_core.settings import load_settings

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = load_settings() if port is None else load_settings(api_port=port)
    interrupted = False
    with ExitStack() as running:
        try:
            _Demo(settings, exit_, running).run()
        except KeyboardInterrupt:
            interrupted = True
        typer.echo("stopping what was started; data and events stay")
    raise typer.Exit(1 if interrupted and exit_ else 0)


class _Demo:
    def __init__(self, settings: Settings, check: bool, running: ExitStack) -> None:
        self.settings, self.check, self.running = settings, check, running
        self.began = time.monotonic()
        self.folder = settings.stack_path / "demo"

    def run(self) -> None:
        """Bring all up, show it, then check it or wait for Ctrl-C. Raises MeshError."""
        from mesh_core.cli.demo import display, preparation
        from mesh_core.cli.demo.processes import Child, only_demo

        self.running.enter_context(only_demo(self.folder))
        port = self._free_port()
        self._say("starting what does not run of Kafka and Postgres")
        mesh, stops = preparation.start_services(self.settings)
        for stop in stops:
            self.running.callback(stop)
        self._say("migrating and deploying")
        modules = preparation.catalog_of(self.settings)
        preparation.prepare_database(mesh, modules)
        self._say("starting a projector and the API")
        environment = {"MESH_CATALOG": modules, "MESH_API_HOST": LOOPBACK, "MESH_API_PORT": str(port)}
        if self.settings.auth_anonymous_role is None:
            environment["MESH_AUTH_ANONYMOUS_ROLE"] = ANONYMOUS
        if not self.settings.cors_origins:
            environment["MESH_CORS_ORIGINS"] = PAGES
        projector, api = (Child(self.folder, name, environment) for name in ("projector", "api"))
        self.running.callback(projector.stop)
        self.running.callback(api.stop)
        published = preparation.publish_history(mesh)
        self._say(f"published {published} events" if published else "the events are in the log already")
        preparation.wait_until_applied(mesh, projector)
        url = f"http://{LOOPBACK}:{port}"
        preparation.wait_until_served(url, api)
        self._say("all events are projected, and served")
        display.show_row(url)
        if self.check:
            self._compare(url, mesh)
            return
        display.show_commands(url)
        typer.echo("\nServing until Ctrl-C.")
        while True:
            projector.check()
            api.check()
            time.sleep(0.5)

    def _say(self, line: str) -> None:
        typer.echo(f"{time.monotonic() - self.began:5.1f} s  {line}")

    def _free_port(self) -> int:
        from mesh_core.stack import ports

        port = self.settings.api_port
        if port and ports.is_free(port):
            return port
        # Where nobody asked for an address, or is there to use it, it need not be the usual one.
        if port and not (self.check and "api_port" not in self.settings.model_fields_set):
            raise PortTaken(
                f"Port {port} is taken, and the API is to be served there.",
                remedy=f"End what uses it, or take another: mesh demo --port {port + 1}.",
            )
        with socket.create_server((LOOPBACK, 0)) as probe:
            return int(probe.getsockname()[1])

    def _compare(self, url: str, mesh: Surroundings) -> None:
        from mesh_core.cli.demo import served
        from mesh_core.engine.checking import check

        findings = served.compare(url)
        titles = ["served", "is", "should be"]
        typer.echo()
        print_table(titles, [[found.what, found.served, found.expected] for found in findings])
        views = check(mesh.database_url)
        if not all(found.right for found in findings) or not all(view.clean for view in views):
            wrong = [found.what for found in findings if not found.right]
            wrong += [view.view for view in views if not view.clean]
            raise NotRight(
                f"Not as it should be: {', '.join(wrong)}. Events other than Northwind's may be in the log.",
                remedy="To begin anew, forgetting all events: ./mesh stack reset.",
            )
        self._say(
            f"the orders of order_overview are as the CSV files say, and {len(views)} views equal their definitions"
        )
