"""History outlives a topic's retention: builds and replays from archive and topic come to the same rows."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.lineage import lineage
from mesh_core.engine.replay import ReplayRefused
from mesh_core.engine.swapping import rollback
from mesh_core.log import TopicPartition
from mesh_core.log.archive import archived, export_topic, verify
from mesh_core.log.position import Position
from tests.engine.desk import say
from tests.engine.replay.replaying import left_behind, rows_at
from tests.support.mesh import ROOT, Mesh, checkpoints_of, environment_of, wait_for


def cut(mesh: Mesh, to: dict[TopicPartition, int]) -> None:
    """Delete records before these offsets, as retention does."""
    from confluent_kafka import TopicPartition as ForeignPartition
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": mesh.settings.kafka_bootstrap_servers or ""})
    wanted = [ForeignPartition(at.topic, at.partition, offset) for at, offset in to.items() if offset]
    for future in admin.delete_records(wanted).values():
        future.result(10)


def export(mesh: Mesh, root: Path, *topics: str) -> None:
    with mesh.driver.admin() as admin:
        facts = admin.describe(topics)
    for topic in topics:
        export_topic(mesh.driver, facts[topic], root)


def test_a_build_and_a_replay_from_archive_and_topic_give_the_same_rows(desk: Mesh, tmp_path: Path) -> None:
    bad = desk.send("desk.events", b"C1", b"{")
    desk.project()
    desk.decide(bad, "discard")
    desk.project()
    export(desk, tmp_path, "desk.events", "mesh.events")
    there, at_export = checkpoints_of(desk), desk.rows("client_overview")
    say(desk, range(20, 50))
    desk.project()
    rows, outcomes = desk.rows("client_overview"), desk.outcomes()
    cut(desk, there)

    with pytest.raises(DeployRefused, match="Name an archive of it in MESH_ARCHIVE"):
        desk.deploy(rebuild=["desk.client", "desk.ticket"])
    with pytest.raises(ReplayRefused, match="Name an archive of it in MESH_ARCHIVE"):
        rows_at(desk, "client_overview")

    kafka = desk.driver
    desk.__dict__["driver"] = archived(kafka, tmp_path)
    built = desk.deploy(rebuild=["desk.client", "desk.ticket"], require_equal=True, processes=2)
    assert {proof.name: proof.equal for proof in built.proofs} == {
        "desk.client": True, "desk.ticket": True, "client_overview": True,
    }  # fmt: skip
    assert desk.rows("client_overview") == rows
    assert desk.outcomes() == outcomes
    assert {key: row for (key,), row in rows_at(desk, "client_overview").items()} == rows
    told = lineage(desk.database_url, desk.driver, "client_overview", "C1")
    assert told.steps[-1].after == rows["C1"]
    before = rows_at(desk, "client_overview", as_of=Position(there))
    assert {key: row for (key,), row in before.items()} == at_export
    rollback(desk.database_url)
    desk.__dict__["driver"] = kafka
    say(desk, range(50, 60))
    desk.project()
    desk.assert_sound()
    assert left_behind(desk) == []


def test_a_killed_export_changes_nothing_and_leaves_nothing_after_the_next(
    desk: Mesh, tmp_path: Path
) -> None:
    say(desk, range(20, 4000))
    desk.project()
    before = desk.rows("client_overview")
    command = [
        sys.executable,
        "-m",
        "mesh_core.cli",
        "events",
        "export",
        "desk.events",
        "--to",
        str(tmp_path),
    ]
    environment = environment_of(desk.settings) | {"MESH_LOG_LEVEL": "warning"}
    folder = tmp_path / "desk.events"
    for number in range(2):
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        wait_for(lambda: any(folder.glob("partition=*/*")))
        time.sleep(0.05 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "--json"], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert verify(folder) == []
    files = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert [name for name in files if not name.endswith(".parquet")] == [".lock", "manifest.json"]
    assert len(files) == 2 + 3
    assert desk.rows("client_overview") == before
    there = {at: offset for at, offset in checkpoints_of(desk).items() if at.topic == "desk.events"}
    cut(desk, there)
    desk.__dict__["driver"] = archived(desk.driver, tmp_path)
    assert {key: row for (key,), row in rows_at(desk, "client_overview").items()} == before
