"""The example of a command side: a service with its own database, an outbox, and a relay beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
import uvicorn
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from examples.bookings.service import OUTBOX, book, create_app
from mesh_core.cli.serve import bind
from mesh_core.emit.outbox import OutboxSession, VersionConflict
from mesh_core.emit.relay import OutboxAddress, Relay
from mesh_core.log import KafkaConfig
from mesh_core.model import Catalog
from mesh_core.settings import Settings
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_database


@pytest.fixture
def own_url(services: Services) -> Iterator[str]:
    """The URL of the service's own database."""
    with fresh_database(services.database_url) as url:
        yield url


@pytest.fixture
def bookings(own_url: str) -> Iterator[httpx.Client]:
    bound = bind("127.0.0.1", 0)
    app = create_app(own_url.replace("postgresql://", "postgresql+psycopg://"))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", timeout=30) as client:
        yield client
    server.should_exit = True
    thread.join()
    bound.close()


def test_commands_race_and_the_mesh_has_what_was_decided(
    bookings: httpx.Client, own_url: str, settings: Settings
) -> None:
    assert bookings.put("/halls/a", json={"seats": 50}).status_code == 201
    assert bookings.put("/halls/a", json={"seats": 60}).status_code == 409
    assert bookings.post("/halls/b/bookings", json={"seats": 1, "guest": "Ada"}).status_code == 404

    def ask(number: int) -> int:
        body = {"seats": 2, "guest": f"guest {number}"}
        for _ in range(100):
            answer = bookings.post(
                "/halls/a/bookings", json=body, headers={"X-Correlation-ID": f"request-{number}"}
            )
            if answer.status_code == 201 or "not so many" in answer.text:
                return answer.status_code
            assert answer.json()["detail"].startswith("somebody was faster")
        raise AssertionError("never served")

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(40)))
    assert statuses.count(201) == 25

    mesh = Mesh(settings, Catalog.load("examples.bookings.declarations"), partitions=1)
    mesh.deploy()
    address = OutboxAddress("bookings", own_url)
    assert settings.kafka_bootstrap_servers
    kafka = KafkaConfig(settings.kafka_bootstrap_servers)
    Relay([address], kafka, retention_seconds=60).run(until_empty=True)
    mesh.project()
    row = mesh.rows("hall_overview")["a"]
    assert (row["seats"], row["booked"]) == (50, 50)
    assert row["last_guest"].startswith("guest ")
    mesh.assert_sound()
    mesh.close()
    with psycopg.connect(own_url) as connection:
        correlated = connection.execute(
            "SELECT count(DISTINCT headers->>'correlationid') FROM outbox"
        ).fetchone()
    assert correlated == (26,)


def test_of_two_racing_commands_one_wins_and_the_other_is_told(bookings: httpx.Client, own_url: str) -> None:
    bookings.put("/halls/a", json={"seats": 3})
    engine = create_engine(own_url.replace("postgresql://", "postgresql+psycopg://"))
    sessions = sessionmaker(engine, class_=OutboxSession, info={"outbox": OUTBOX})
    with sessions() as first, sessions() as second, ThreadPoolExecutor(1) as pool:
        assert book(first, "a", 2, "Ada") == 1
        told = pool.submit(book, second, "a", 2, "Bo")  # waits for what becomes of the first
        time.sleep(0.2)
        assert not told.done()
        first.commit()
        with pytest.raises(VersionConflict):
            told.result(10)
    engine.dispose()
    answer = bookings.post("/halls/a/bookings", json={"seats": 2, "guest": "Bo"})
    assert (answer.status_code, "not so many" in answer.text) == (409, True)
