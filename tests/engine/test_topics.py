"""Topics that are not what they were: they halt, say why, and everything else goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import chain
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition as ForeignPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from mesh_core.engine import inspection
from mesh_core.log import TopicPartition
from mesh_core.store import checkpoints
from tests.engine.domain import CATALOG, CustomerSaved, ProductListed
from tests.engine.events import Said, encoded
from tests.log.reading import transactional
from tests.support.mesh import Mesh, Outcomes, Running, checkpoints_of, wait_for


def said(name: str, number: int = 1) -> tuple[bytes | None, bytes | None]:
    data = {"customer_id": name, "name": name}
    return encoded(
        Said("crm.events", name, "crm.customer.saved.v1", data), event_id=f"{name}{number}", second=number
    )


def alter(mesh: Mesh, change: Callable[[AdminClient], dict[Any, Future[Any]]]) -> None:
    """Change the topics as an operator would, and wait for it."""
    assert mesh.settings.kafka_bootstrap_servers is not None
    admin = AdminClient({"bootstrap.servers": mesh.settings.kafka_bootstrap_servers})
    for future in change(admin).values():
        future.result(10)


def assert_halted_alone(mesh: Mesh, topic: str, *reason: str) -> None:
    """Only `topic` is halted, its reason has these words, and another topic's events are applied."""
    mesh.publish(ProductListed(product_id=99, name="after"), 99)
    mesh.project()
    assert set(mesh.halted()) == {topic}
    for word in reason:
        assert word in mesh.halted()[topic]
    assert 99 in mesh.rows("stock_product")
    mesh.assert_sound()


def test_a_key_from_the_wrong_partition_halts(mesh: Mesh) -> None:
    key, value = said("Ada")
    right = mesh.send("crm.events", key, value).partition.partition
    mesh.project()
    wrong = (right + 1) % 3
    at = mesh.send("crm.events", key, said("Ada", 2)[1], partition=wrong)
    assert_halted_alone(mesh, "crm.events", "'Ada'", f"partition {wrong}", f"partition {right}")
    assert checkpoints_of(mesh)[at.partition] == at.offset, "the checkpoint stays before it"


def test_a_key_from_the_wrong_partition_in_the_same_batch_halts(mesh: Mesh) -> None:
    for partition in (0, 1):
        mesh.send("crm.events", *said("Ada", partition), partition=partition)
    assert_halted_alone(mesh, "crm.events", "'Ada'")


def test_a_list_from_the_wrong_partition_halts(mesh: Mesh) -> None:
    """Elements replace those of the record key, so none may be replaced by a stranger's."""

    def items(number: int, product: int) -> tuple[bytes | None, bytes | None]:
        data = {"order_id": 1, "items": [{"product_id": product, "quantity": 1, "unit_price": 1}]}
        event = Said("sales.events", "1", "sales.order.items_changed.v1", data)
        return encoded(event, event_id=f"i{number}", second=number)

    mesh.send("sales.events", *items(1, 1), partition=0)
    mesh.project()
    mesh.send("sales.events", *items(2, 2), partition=1)
    assert_halted_alone(mesh, "sales.events", "'1")
    assert list(mesh.rows("sales_line")) == [(1, 1)]


def test_a_topic_made_anew_halts(mesh: Mesh) -> None:
    mesh.publish(CustomerSaved(customer_id="A", name="Ada"), "A")
    mesh.project()
    with mesh.driver.admin() as admin:
        admin.delete_topic("crm.events")
        wait_for(lambda: "crm.events" not in admin.describe(["crm.events"]))
        wait_for(lambda: created(mesh))
    mesh.publish(CustomerSaved(customer_id="B", name="Bob"), "B")
    assert_halted_alone(mesh, "crm.events", "re-created")
    assert set(mesh.rows("crm_customer")) == {"A"}


def created(mesh: Mesh) -> bool:
    with mesh.driver.admin() as admin:
        return admin.create_topic("crm.events", 3).partitions == 3


@pytest.mark.parametrize("applied", [True, False])
def test_a_truncated_topic_halts_where_records_were_not_applied(mesh: Mesh, applied: bool) -> None:
    for number in range(4):
        mesh.send("crm.events", *said("Ada", number), partition=0)
    if applied:
        mesh.project()
    cut = ForeignPartition("crm.events", 0, 3)
    alter(mesh, lambda admin: admin.delete_records([cut]))
    if applied:
        mesh.publish(CustomerSaved(customer_id="B", name="Bob"), "B")
        mesh.project()
        assert mesh.halted() == {}, "what is gone was applied"
        assert set(mesh.rows("crm_customer")) == {"Ada", "B"}
    else:
        assert_halted_alone(mesh, "crm.events", "starts at offset 3", "3 records are gone")
        assert mesh.rows("crm_customer") == {}


def test_more_partitions_halt(mesh: Mesh) -> None:
    mesh.publish(CustomerSaved(customer_id="A", name="Ada"), "A")
    mesh.project()
    alter(mesh, lambda admin: admin.create_partitions([NewPartitions("crm.events", 5)]))
    assert_halted_alone(mesh, "crm.events", "5 partitions", "but 3")


def test_a_topic_changed_under_a_running_projector_halts(mesh: Mesh) -> None:
    with mesh.projecting():
        mesh.publish(CustomerSaved(customer_id="A", name="Ada"), "A")
        mesh.wait_caught_up()
        alter(mesh, lambda admin: admin.create_partitions([NewPartitions("crm.events", 4)]))
        wait_for(lambda: "crm.events" in mesh.halted(), what="halting")
        assert mesh.running is not None
        wait_for(lambda: mesh.running is not None and "crm.events" in mesh.running.projector.halted)
        mesh.publish(ProductListed(product_id=99, name="after"), 99)
        mesh.publisher.flush()
        wait_for(lambda: 99 in mesh.rows("stock_product"), what="going on with the other topics")


def test_a_deploy_halts_nothing_and_restarting_resumes(mesh: Mesh) -> None:
    """What was halted for a passing reason goes on at the next start."""
    mesh.execute("UPDATE mesh.checkpoints SET halted_reason = 'because' WHERE topic = 'crm.events'")
    mesh.publish(CustomerSaved(customer_id="A", name="Ada"), "A")
    mesh.project()
    assert mesh.halted() == {}
    assert mesh.outcomes() == Outcomes(consumed=1, applied=1)


def test_empty_topics_are_caught_up_at_once(mesh: Mesh) -> None:
    mesh.project()
    assert mesh.outcomes() == Outcomes()
    assert set(checkpoints_of(mesh).values()) == {0}
    mesh.assert_sound()


@pytest.mark.parametrize("partitions", [1, 40])
def test_topics_with_one_partition_and_with_forty(settings: object, partitions: int) -> None:
    mesh = Mesh(settings, CATALOG, partitions)  # type: ignore[arg-type]
    mesh.deploy()
    for number in range(200):
        mesh.publish(CustomerSaved(customer_id=f"C{number}", name="x"), f"C{number}")
    mesh.project()
    assert len(mesh.rows("customer_overview")) == 200
    assert len(checkpoints_of(mesh)) == 4 * partitions
    assert mesh.outcomes() == Outcomes(consumed=200, applied=200)
    mesh.assert_sound()
    mesh.close()


def test_the_checkpoint_passes_what_was_never_committed(mesh: Mesh) -> None:
    assert mesh.settings.kafka_bootstrap_servers is not None
    producer = transactional(mesh.settings.kafka_bootstrap_servers, "test")
    for name, commit in (("aborted", False), ("committed", True), ("aborted too", False)):
        producer.begin_transaction()
        key, value = said(name)
        producer.produce("crm.events", value, key, partition=0)
        producer.flush(10)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    mesh.project()
    assert set(mesh.rows("crm_customer")) == {"committed"}
    assert mesh.outcomes() == Outcomes(consumed=1, applied=1)
    assert checkpoints_of(mesh)[TopicPartition("crm.events", 0)] == 6, "three records and three markers"
    mesh.project()
    assert mesh.outcomes() == Outcomes(consumed=1, applied=1)


def share(mesh: Mesh, *projectors: Running) -> bool:
    """Each has partitions, none is with two, and together they have all."""
    owned = [set(each.projector._standing.positions) for each in projectors]
    return all(owned) and sorted(chain(*owned)) == sorted(checkpoints_of(mesh))


def test_a_slow_projector_holds_up_only_its_partitions(mesh: Mesh) -> None:
    """Also while another joins, which has to wait for it."""

    def fences() -> dict[TopicPartition, int]:
        rows = mesh.query('SELECT topic, "partition", fence FROM mesh.checkpoints WHERE build = 0')
        return {TopicPartition(topic, number): fence for topic, number, fence in rows}

    with mesh.projecting() as fast, mesh.projecting() as slow:
        wait_for(lambda: share(mesh, fast, slow))
        before = fences()
        held = min(part for part in slow.projector._standing.positions if part.topic == "crm.events")
        with psycopg.connect(mesh.database_url) as holder:
            holder.execute(
                'SELECT FROM mesh.checkpoints WHERE topic = %s AND "partition" = %s FOR UPDATE',
                [held.topic, held.partition],
            )
            sent = [mesh.send("crm.events", *said(f"early {number}")) for number in range(20)]
            assert held in {record.partition for record in sent}
            with mesh.projecting():
                time.sleep(2.5)  # longer than a heartbeat: the group is joining
                kept = set(fast.projector._standing.positions)
                sent += [mesh.send("crm.events", *said(f"late {number}")) for number in range(20)]
                assert kept & {record.partition for record in sent}
                mesh.wait_applied(*(record for record in sent if record.partition in kept))
                assert checkpoints_of(mesh)[held] == 0
                assert {part: fences()[part] for part in kept} == {part: before[part] for part in kept}
                holder.rollback()
                mesh.wait_applied(*sent)
    mesh.assert_sound()


def test_a_halt_and_its_end_reach_every_projector(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "CHECK_SECONDS", 0.3)
    with mesh.projecting() as first, mesh.projecting() as second:
        mesh.publish(CustomerSaved(customer_id="A", name="Ann"), "A")
        wait_for(lambda: "A" in mesh.rows("crm_customer"))
        wait_for(lambda: share(mesh, first, second))  # an assignment would end the halt
        with psycopg.connect(mesh.database_url, autocommit=True) as connection:
            checkpoints.halt(connection, "crm.events", "The operator looks at it.")
            wait_for(
                lambda: "crm.events" in first.projector.halted and "crm.events" in second.projector.halted
            )
            for key in "BCDE":
                mesh.publish(CustomerSaved(customer_id=key, name=key), key)
            mesh.publish(ProductListed(product_id=1, name="tea"), "1")
            wait_for(lambda: bool(mesh.rows("stock_product")))
            assert set(mesh.rows("crm_customer")) == {"A"}
            checkpoints.resume(connection, list(checkpoints.read(connection, ["crm.events"])))
        wait_for(lambda: set(mesh.rows("crm_customer")) == set("ABCDE"))
    mesh.assert_sound()
