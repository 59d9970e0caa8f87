"""The API as its clients meet it: over a socket, on a real database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from api.app import create_app
from mesh_core.cli.serve import bind, server_of
from mesh_core.settings import Settings

NO_KAFKA = "127.0.0.1:1"


@contextmanager
def served(settings: Settings) -> Iterator[httpx.Client]:
    """A client of an API that runs in a thread."""
    bound = bind("127.0.0.1", 0)
    server = server_of(create_app(settings))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


@pytest.fixture
def client(deployed_url: str) -> Iterator[httpx.Client]:
    """A client of the small mesh; Kafka is away."""
    settings = Settings(
        auth_anonymous_role="admin",
        database_url=deployed_url,
        kafka_bootstrap_servers=NO_KAFKA,
        catalog="tests.read.declarations",
        page_limit_default=2,
    )
    with served(settings) as client:
        yield client
