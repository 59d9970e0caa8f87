"""`mesh migrate`, `deploy`, `status`, `check`, `workflow`: what is deployed, how it is, whether it is right."""

from __future__ import annotations

import psycopg

from mesh_core.emit import Publisher
from mesh_core.engine.deploy import Topics, Wishes, deploy
from mesh_core.model import Catalog
from mesh_core.model.builtin import GrantMade
from tests.cli.conftest import Done, Mesh
from tests.cli.domain import TOPIC, WORKFLOW, added, lines, sold


def test_from_nothing_to_rows_that_are_right(mesh: Mesh) -> None:
    before = mesh("status")
    assert before.status == 3
    assert "mesh migrate" in before.err
    assert mesh("check").status == 3

    assert mesh("migrate").status == 0
    assert mesh("migrate").status == 0
    first = mesh("deploy", "--json").json
    assert first["changed"]
    assert {(s["kind"], s["name"]) for s in first["steps"] if s["change"] == "new"} >= {
        ("view", "shop_overview")
    }
    assert not mesh("deploy", "--json").json["changed"]

    mesh.publish(lines(added(1), sold(1, 1, 2)))
    behind = mesh("status", "--json")
    assert behind.status == 0
    view = next(v for v in behind.json["versions"] if v["name"] == "shop_overview")
    assert (view["state"], view["number"], view["lag_events"]) == ("live", 1, 2)
    assert view["lag_seconds"] > 0
    assert sum(row["lag_events"] for row in behind.json["partitions"]) == 2

    mesh.project()
    caught_up = mesh("status", "--json").json
    topic = next(t for t in caught_up["topics"] if t["topic"] == TOPIC)
    assert (topic["consumed"], topic["applied"], topic["lag_events"], topic["lag_seconds"]) == (2, 2, 0, 0.0)
    text = mesh("status", "--partitions")
    assert (text.status, "no dead letters" in text.out) == (0, True)

    right = mesh("check", "shop_overview", "--json")
    assert right.status == 0
    assert [(r["view"], r["rows"], r["clean"]) for r in right.json] == [("shop_overview", 1, True)]


def test_check_finds_a_wrong_row_and_names_it(mesh: Mesh) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1), added(2)))
    mesh.project()
    with psycopg.connect(mesh.surroundings.database_url) as connection:
        connection.execute("UPDATE data.shop_overview__1 SET name = 'else' WHERE item_id = 2")
    done = mesh("check", "--json")
    assert done.status == 1
    assert [(r["different"], r["samples"]) for r in done.json] == [(1, [[2]])]
    assert mesh("check", "no_such_view").status == 2


def test_status_tells_why_a_topic_is_halted(mesh: Mesh) -> None:
    mesh.deployed()
    with psycopg.connect(mesh.surroundings.database_url) as connection:
        connection.execute(
            "UPDATE mesh.checkpoints SET halted_reason = 'It was cut.' WHERE topic = %s", (TOPIC,)
        )
    done = mesh("status", "--json")
    assert done.status == 1
    stale = {v["name"]: v["stale"] for v in done.json["versions"]}
    assert (stale["shop_overview"], stale["mesh.workflow"]) == ("It was cut.", None)


def test_status_tells_of_rows_that_are_still_to_be_recomputed(mesh: Mesh) -> None:
    mesh.deployed()
    with psycopg.connect(mesh.surroundings.database_url) as connection:
        connection.execute(
            "INSERT INTO mesh.fan_out (version_id, node, key, hash, noted_at) "
            "SELECT id, 'n', '[1]', '', '2026-01-02T03:04:05Z' FROM mesh.versions WHERE name = 'shop_overview'"
        )
    done = mesh("status", "--json")
    assert done.status == 0
    stale = {v["name"]: v["stale"] for v in done.json["versions"]}
    assert "since 2026-01-02T03:04:05+00:00" in stale["shop_overview"]
    assert stale["mesh.workflow"] is None


def test_status_tells_of_the_last_deploy_and_of_builds_under_way(mesh: Mesh) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1), added(2), sold(1, 1), sold(2, 2)))
    mesh.project()
    done = mesh("status", "--json").json
    assert (done["deploy"]["state"], done["builds"]) == ("done", [])
    assert "@" in done["deploy"]["started_by"]
    assert "shop_overview" in done["deploy"]["changes"]
    assert done["deploy"]["started_at"] < done["deploy"]["finished_at"]

    seen: list[Done] = []

    def look(line: str) -> None:
        if line.startswith("computing"):
            with psycopg.connect(mesh.surroundings.database_url) as connection:
                connection.execute(
                    "UPDATE mesh.builds SET done = 1, updated_at = started_at + interval '2 s' WHERE total = 4"
                )
            seen.extend([mesh("status", "--json"), mesh("status")])

    deploy(
        mesh.surroundings.database_url,
        Catalog.load(mesh.settings.catalog),
        mesh.surroundings.driver,
        Topics(2, 1),
        look,
        Wishes(rebuild=["shop.item", "shop_overview"]),
    )
    during, shown = seen
    assert (during.json["deploy"]["state"], during.json["deploy"]["finished_at"]) == ("running", None)
    builds = {build["name"]: build for build in during.json["builds"]}
    asked = ("number", "state", "percent", "events_per_second", "seconds_left", "lag_events")
    assert [builds["shop.item"][name] for name in asked] == [2, "joined", 25.0, 0.5, 6.0, 3]
    assert [builds["shop_overview"][name] for name in asked] == [2, "queued", None, None, None, None]
    assert "shop.item, shop_overview" in shown.out
    lags = {(row["name"], row["state"]): row["lag_events"] for row in during.json["versions"]}
    assert (lags["shop_overview", "live"], lags["shop_overview", "queued"]) == (0, None)


def test_a_deploy_that_was_killed_is_not_under_way(mesh: Mesh) -> None:
    mesh.deployed()
    with psycopg.connect(mesh.surroundings.database_url) as connection:
        connection.execute("UPDATE mesh.deploys SET state = 'running', finished_at = NULL")
    found = mesh("status", "--json").json
    assert (found["deploy"]["state"], found["builds"]) == ("interrupted", [])


def test_without_kafka_status_shows_the_rest(mesh: Mesh) -> None:
    mesh.deployed()
    mesh.monkeypatch.setenv("MESH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    done = mesh("status", "--json")
    assert done.status == 3
    assert {t["lag_events"] for t in done.json["topics"]} == {None}
    assert "127.0.0.1:1" in done.err
    assert mesh("deploy").status == 3
    assert mesh("events", "publish", "-", stdin=lines(added(1))).status == 3


def test_without_postgres_commands_say_so_in_one_line(mesh: Mesh) -> None:
    mesh.monkeypatch.setenv("MESH_DATABASE_URL", "postgresql://mesh:geheim@127.0.0.1:1/mesh")
    for command in (["status"], ["migrate"], ["deploy"], ["check"], ["dead-letters", "list"]):
        done = mesh(*command)
        assert done.status == 3, command
        assert done.err.startswith("mesh: Postgres")
        assert done.err.count("\n") == 1
        assert "geheim" not in done.err


def test_settings_are_shown_without_their_secrets(mesh: Mesh) -> None:
    mesh.monkeypatch.setenv("MESH_DATABASE_URL", "postgresql://mesh:geheim@127.0.0.1:1/mesh")
    for arguments in (["status", "--settings"], ["status", "--settings", "--json"]):
        done = mesh(*arguments)
        assert done.status == 0
        assert "MESH_DATABASE_URL" in done.out
        assert "geheim" not in done.out


def test_a_workflow_with_its_entries_and_its_timeline(mesh: Mesh) -> None:
    mesh.deployed()
    mesh.publish(lines(added(1, workflowid=WORKFLOW), sold(7, 1, workflowid=WORKFLOW), sold(8, 1)))
    mesh.project()
    found = mesh("workflow", WORKFLOW, "--json")
    assert found.status == 0, found.err
    assert [(e["service"], e["entity"], e["key"]) for e in found.json["entries"]] == [
        ("shop", "item", "1"),
        ("shop", "sale", "7"),
    ]
    assert sorted(e["type"] for e in found.json["timeline"]) == ["shop.item.added.v1", "shop.sale.made.v1"]
    assert "shop.sale.made.v1" in mesh("workflow", WORKFLOW).out
    assert mesh("workflow", "0198a000-0000-7000-8000-00000000ffff").status == 1
    assert mesh("workflow", "not-a-uuid").status == 2


def test_plan_and_status_tell_of_central_grants_without_effect(mesh: Mesh) -> None:
    mesh.deployed()
    said = {"role": "clerk", "rules": [{"columns": None}], "changed_by": "boss"}
    with mesh.surroundings.driver.producer() as producer:
        publisher = Publisher(producer, source="/test")
        for resource in ("view:shop_overview", "view:shop_overviews", "timeline"):
            publisher.publish(GrantMade.model_validate(said | {"resource": resource}))
        publisher.flush()
    mesh.project()
    (told,) = mesh("status", "--json").json["grants"]
    assert "clerk on view:shop_overviews has no effect" in told
    assert told in mesh("status").out
    assert f"warning: {told}" in mesh("plan").err
