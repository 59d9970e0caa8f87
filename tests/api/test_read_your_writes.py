"""Whoever writes and then reads at the position of the write sees it, or is told why not: real Kafka, two projectors."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from mesh_core.log import Position
from mesh_core.settings import Settings
from tests.api.conftest import served
from tests.read.declarations import OrderPlaced, catalog
from tests.support.mesh import Mesh, wait_for

CATALOG = "tests.read.declarations"


@pytest.mark.parametrize("writes", [30, pytest.param(1_000, marks=pytest.mark.soak)])
def test_every_write_is_read_back(settings: Settings, writes: int) -> None:
    settings = settings.model_copy(update={"catalog": CATALOG, "projector_poll_seconds": 0.1})
    mesh = Mesh(settings, catalog)
    mesh.deploy()
    projectors = [mesh.spawn(), mesh.spawn()]
    said: Counter[int] = Counter()
    try:
        with served(settings) as client, mesh.publisher as publisher:
            wait_for(lambda: fresh(client), 60, "both projectors at work")
            for number in range(writes):
                if number == writes // 2:
                    projectors[0].kill()
                    projectors[0].wait()
                    projectors[0] = mesh.spawn()
                written = write(mesh, number)
                headers = {"Mesh-Min-Position": written.to_header(), "Prefer": "wait=2"}
                answer = client.get(f"/v1/views/orders/{number % 50}", headers=headers)
                said[answer.status_code] += 1
                if answer.status_code == 200:
                    assert answer.json()["customer"] == f"write {number}", "silently stale"
                    reached = Position.from_header(answer.headers["mesh-position"])
                    assert reached.reaches(written)
                else:
                    assert (answer.status_code, answer.json()["type"]) == (
                        504,
                        "urn:flexmesh:problem:not-reached",
                    )
                    reached = Position.from_header(answer.headers["mesh-position"])
                    assert not reached.reaches(written)
            publisher.flush()
            # While the group finds out that a member is gone, its partitions stand still: reads say so.
            assert said[200] > writes * 3 // 4, said
            wait_for(lambda: fresh(client), 90, "being up to date again")
    finally:
        for projector in projectors:
            projector.terminate()
        for projector in projectors:
            projector.wait(30)
        mesh.close()


def fresh(client: httpx.Client) -> bool:
    """Whether everything is up to date within the last few seconds."""
    answer = client.get("/v1/views/orders", headers={"Prefer": "max-staleness=5"})
    assert answer.status_code == 200 or answer.json()["type"] == "urn:flexmesh:problem:too-stale"
    return answer.status_code == 200 and float(answer.headers["mesh-age"]) <= 5


def write(mesh: Mesh, number: int) -> Position:
    placed = OrderPlaced(
        order_id=number % 50,
        customer=f"write {number}",
        total=Decimal("1.0000"),
        express=False,
        placed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    sent = mesh.publisher.publish(placed, key=str(number % 50)).result(10)
    return Position.after([(sent.partition, sent.offset)])


def test_what_is_old_says_how_old(settings: Settings) -> None:
    settings = settings.model_copy(update={"catalog": CATALOG})
    mesh = Mesh(settings, catalog)
    mesh.deploy()
    with served(settings) as client:
        assert client.get("/v1/views/orders", headers={"Prefer": "max-staleness=600"}).status_code == 503
        with mesh.projecting():
            wait_for(lambda: fresh(client), 60, "being up to date")
            until = time.monotonic() + 4
            while time.monotonic() < until:
                assert fresh(client), "nothing happens, and that is known"
        wait_for(lambda: float(client.get("/v1/views/orders").headers["mesh-age"]) > 2, what="growing old")
        answer = client.get("/v1/views/orders", headers={"Prefer": "max-staleness=1"})
        assert answer.status_code == 503
        assert answer.headers["mesh-position"]
        assert "max-staleness=1" in answer.json()["detail"]
        older = float(client.get("/v1/views/orders").headers["mesh-age"])
        assert 2 <= older < 60
    mesh.close()
