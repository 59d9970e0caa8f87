from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kafka import KafkaAdminClient

from mesh_core.log import Admin, TopicFacts
from tests.support.services import Services

GOOD = TopicFacts("sales.events", "id", 6, "delete", -1, -1)


def test_a_topic_is_created_once_and_keeps_everything(admin: Admin, unique: Callable[[str], str]) -> None:
    name = unique("sales")
    facts = admin.create_topic(name, 3)
    assert facts.problems() == []
    assert (facts.name, facts.partitions) == (name, 3)
    assert admin.create_topic(name, 5) == facts
    assert admin.describe([name, unique("nowhere")]) == {name: facts}
    assert admin.describe([]) == {}
    admin.delete_topic(name)
    admin.delete_topic(name)
    assert admin.describe([name]) == {}


def test_a_topic_of_somebody_else_is_told_apart(
    services: Services, admin: Admin, unique: Callable[[str], str]
) -> None:
    name = unique("compacted")
    client = KafkaAdminClient(bootstrap_servers=services.kafka_bootstrap_servers)
    configs = {"cleanup.policy": "compact,delete", "retention.ms": "1000", "retention.bytes": "2000"}
    client.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": configs}})
    client.wait_for_topics([name])
    client.close()
    problems = admin.describe([name])[name].problems()
    assert len(problems) == 3
    assert all(name in problem for problem in problems)
    assert "cleanup.policy=compact,delete" in problems[0]


def test_each_problem_is_a_sentence() -> None:
    assert GOOD.problems() == []
    assert len(replace(GOOD, retention_ms=604_800_000).problems()) == 1
    assert "604800000 ms only" in replace(GOOD, retention_ms=604_800_000).problems()[0]
