"""Builds from the log: by several processes, on full topics, of bad history, killed half-way."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from mesh_core.engine import building
from mesh_core.engine.errors import DeployRefused
from mesh_core.engine.pruning import orphans
from mesh_core.engine.swapping import rollback
from mesh_core.log import TopicPartition
from mesh_core.settings import Settings
from mesh_core.store.tables import ENTRY
from tests.engine.desk import ToolBought, catalog, changes, relations, say
from tests.support.mesh import ROOT, Mesh, environment_of


@pytest.fixture
def full(settings: Settings) -> Any:
    """The help desk's topics with history, and nothing deployed."""
    mesh = Mesh(settings, catalog())
    with mesh.driver.admin() as admin:
        for topic in ("desk.events", "mesh.events"):
            admin.create_topic(topic, 3, 1)
    say(mesh, range(30))
    mesh.publisher.flush()
    yield mesh
    mesh.close()


def test_a_first_deploy_reads_full_topics_to_their_end(full: Mesh) -> None:
    bad = full.send("desk.events", b"C1", b"{")
    assert changes(full.deploy())["client_overview"] == "new"
    assert full.outcomes() == (91, 90, 0, 1, 0), "no projector ran"
    assert full.rows("client_overview")["C1"]["name"] == "name 26"
    full.assert_sound()
    say(full, range(30, 33))
    full.project()
    full.decide(bad, "discard")
    full.project()
    assert full.outcomes("desk.events") == (100, 99, 1, 0, 0)
    full.assert_sound()


def test_history_is_read_by_several_processes(full: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "WORTH_A_PROCESS", 10)
    said: list[str] = []
    full.deploy(processes=3, progress=said.append)
    assert full.outcomes() == (90, 90, 0, 0, 0)
    full.assert_sound()
    again = full.deploy(rebuild=["desk.client", "desk.ticket"], processes=2, require_equal=True)
    assert [proof.rows for proof in again.proofs] == [5, 30, 5]
    full.assert_sound()


def test_a_key_from_two_partitions_refuses_a_build(full: Mesh) -> None:
    event = b'{"specversion":"1.0","id":"x","source":"/x","type":"desk.client.gone.v1","time":"2026-01-01T00:00:00Z",'
    saved = event.replace(b"gone", b"saved") + b'"data":{"client_id":"Z","name":"twice"}}'
    for partition in (0, 1):
        full.send("desk.events", b"Z", saved, partition=partition)
    with pytest.raises(DeployRefused, match=r"The key 'Z' of desk.client came from"):
        full.deploy()
    assert relations(full) == {}
    assert full.query("SELECT state, detail IS NOT NULL FROM mesh.deploys") == [("refused", True)]


def test_what_cannot_be_copied_is_applied_batch_by_batch(full: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise psycopg.errors.NumericValueOutOfRange("as if one record had passed all checks, and did not fit")

    monkeypatch.setattr(building, "fill", fill)
    said: list[str] = []
    full.deploy(progress=said.append)
    assert any("batch by batch" in line for line in said)
    assert full.outcomes() == (90, 90, 0, 0, 0)
    full.assert_sound()


def test_a_log_without_its_beginning_is_read_only_if_that_is_accepted(full: Mesh) -> None:
    from confluent_kafka import TopicPartition as ForeignPartition
    from confluent_kafka.admin import AdminClient

    assert full.settings.kafka_bootstrap_servers is not None
    admin = AdminClient({"bootstrap.servers": full.settings.kafka_bootstrap_servers})
    for future in admin.delete_records([ForeignPartition("desk.events", 0, 2)]).values():
        future.result(10)
    with pytest.raises(DeployRefused, match=r"desk.events\[0\] starts at 2"):
        full.deploy()
    full.deploy(accept_truncated=True)
    assert full.outcomes().consumed == 88
    say(full, range(30, 40))
    full.project()
    full.assert_sound()


def test_a_first_deploy_that_fails_after_its_entities_joined_counts_nothing_twice(full: Mesh) -> None:
    full.send("desk.events", b"C1", b"{")

    def progress(line: str) -> None:
        if line.startswith("computing"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        full.deploy(progress=progress)
    assert full.held() == []
    assert full.outcomes() == (91, 90, 1, 0, 0), "the topic has been read, by nobody who is left"
    full.deploy()
    assert full.outcomes() == (91, 90, 0, 1, 0)
    full.assert_sound()


@pytest.mark.parametrize("rebuilt", [(), (ENTRY,)])
def test_a_topic_that_is_new_to_the_mesh_brings_its_workflows(full: Mesh, rebuilt: tuple[str, ...]) -> None:
    full.deploy(catalog(by_workflow=True))
    full.deploy(catalog(by_workflow=True, sums=True))  # so that there are versions that are kept up
    with full.driver.admin() as admin:
        admin.create_topic("shed.events", 3, 1)
    workflow = uuid4()
    for tool in range(9):
        full.publish(ToolBought(tool_id=tool, name="saw"), tool, workflow=workflow)
    full.publisher.flush()
    full.deploy(catalog(by_workflow=True, sums=True, tools=True), rebuild=rebuilt)
    for _ in range(2):
        entries = [(row["entity"], row["workflow_id"]) for row in full.rows("mesh_workflow_entry").values()]
        assert entries == [("tool", workflow)] * 9
        assert full.query("SELECT count(*) FROM mesh.event_index WHERE workflow_id = %s", workflow) == [(9,)]
        full.assert_sound()
        if rebuilt:
            rollback(full.database_url)


def deploying(mesh: Mesh, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mesh_core.cli", *arguments],
        cwd=ROOT,
        env=environment_of(mesh.settings) | {"MESH_CATALOG": "tests.engine.domain"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def killed_at_random(mesh: Mesh, times: int, seconds: float) -> None:
    """Rebuild everything, again and again, each killed at some moment; what serves stays whole."""
    names = [*mesh.catalog.entities, *mesh.catalog.views]
    moments = random.Random(4)
    with mesh.projecting():
        for turn in range(times):
            process = deploying(mesh, "rebuild", *names)
            say_domain(mesh, turn)
            time.sleep(moments.uniform(0.6, seconds))
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            mesh.wait_caught_up()
            mesh.assert_sound()
        last = deploying(mesh, "rebuild", *names)
        assert last.wait(60) == 0
        mesh.wait_caught_up()
    mesh.assert_sound()
    states = {state for (state,) in mesh.query("SELECT DISTINCT state FROM mesh.deploys")}
    assert "running" not in states
    with psycopg.connect(mesh.database_url, autocommit=True) as connection:
        assert orphans(connection) == []
    assert {state for (state,) in mesh.query("SELECT DISTINCT state FROM mesh.versions")} == {
        "live",
        "previous",
    }


def say_domain(mesh: Mesh, turn: int) -> None:
    from tests.engine.domain import CustomerSaved, ProductListed

    for n in range(20):
        key = f"K{n % 7}"
        mesh.publish(CustomerSaved(customer_id=key, name=f"name {turn} {n}"), key)
        mesh.publish(ProductListed(product_id=n % 5, name=f"product {turn}"), n % 5)


def test_a_rebuild_that_is_killed_harms_nothing(mesh: Mesh) -> None:
    say_domain(mesh, 0)
    mesh.project()
    killed_at_random(mesh, 4, 3.0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_rebuild_that_is_killed_fifty_times_harms_nothing(mesh: Mesh) -> None:
    say_domain(mesh, 0)
    mesh.project()
    killed_at_random(mesh, 50, 5.0)


def test_partitions_of_a_build_are_taken_once(full: Mesh) -> None:
    full.deploy()
    partitions = {TopicPartition("desk.events", n): 10 for n in range(3)}
    full.execute("UPDATE mesh.checkpoints SET fence = 0")
    with psycopg.connect(full.database_url, autocommit=True) as connection:
        first = building.claims(connection, 0, partitions, shares=2)
        second = building.claims(connection, 0, partitions, shares=2)
        assert sorted(next(first)) == [TopicPartition("desk.events", 0), TopicPartition("desk.events", 2)]
        assert list(second) == [[TopicPartition("desk.events", 1)]]
        assert list(first) == []
