"""What a plan says that a deploy will read, and how long that will take."""

from __future__ import annotations

from mesh_core.engine.estimating import Cost, estimate
from tests.engine.desk import catalog
from tests.support.mesh import Mesh


def costs(desk: Mesh, **flags: bool) -> dict[str, Cost]:
    return {cost.name: cost for cost in estimate(desk.database_url, catalog(**flags), desk.driver).costs}


def built(desk: Mesh, kind: str, done: int, seconds: float) -> None:
    desk.execute(
        "INSERT INTO mesh.builds (version_id, deploy_id, kind, name, total, done, started_at, finished_at) "
        f"SELECT 9999, max(id), '{kind}', 'x', {done}, {done}, "
        f"clock_timestamp() - interval '{seconds} s', clock_timestamp() FROM mesh.deploys"
    )


def test_a_plan_tells_what_each_step_reads_and_about_how_long_it_takes(desk: Mesh) -> None:
    assert {cost.change for cost in costs(desk).values()} == {"unchanged"}
    found = costs(desk, with_city=True)
    client, view = found["desk.client"], found["client_overview"]
    (events,) = desk.query("SELECT sum(next_offset)::int FROM mesh.checkpoints WHERE topic = 'desk.events'")[
        0
    ]
    assert (client.change, client.reads, client.events) == ("changed", ("desk.events",), events)
    assert (view.change, view.events, found["desk.ticket"].change) == ("changed", None, "unchanged")
    assert found["desk.ticket"].seconds is None
    # What little took says nothing of how long much takes.
    desk.execute("DELETE FROM mesh.builds")
    assert costs(desk, with_city=True)["desk.client"].seconds is None
    desk.deploy(catalog(with_city=True))
    desk.execute("UPDATE mesh.builds SET started_at = finished_at - interval '2 s'")
    assert costs(desk, with_nickname=True)["desk.client"].seconds == 2.0
    desk.execute("DELETE FROM mesh.builds")
    built(desk, "entity", 50_000, 5.0)
    assert costs(desk, with_nickname=True)["desk.client"].seconds is None
    for _ in range(10_000):
        desk.producer.send("desk.events", b"C0", b"{}")
    desk.producer.flush(30)
    client = costs(desk, with_nickname=True)["desk.client"]
    assert client.events is not None
    assert client.seconds is not None
    assert abs(client.seconds - client.events / 10_000) < 0.1
