"""The fixtures that all other tests stand on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from mesh_core import stack
from mesh_core.settings import Settings
from tests.support import services as support
from tests.support.services import Services


def test_a_database_is_empty_and_dropped_with_its_connections(services: Services) -> None:
    with support.fresh_database(services.database_url) as url:
        connection = psycopg.connect(url)
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_clean_kafka_has_no_topics(services: Services, unique: Callable[[str], str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=services.kafka_bootstrap_servers)
    admin.create_topics([NewTopic(unique("sales"), 1, 1)])
    support.delete_all_topics(services.kafka_bootstrap_servers)
    assert [topic for topic in admin.list_topics() if not topic.startswith("__")] == []
    admin.close()


def test_settings_are_of_this_test_alone(settings: Settings, database_url: str) -> None:
    found = stack.resolve(settings)
    assert found.database_url == database_url


def test_the_stacks_of_killed_runs_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "_STACKS", tmp_path)
    (tmp_path / "1-dead.alive").touch()
    (tmp_path / "1-dead" / "postgres").mkdir(parents=True)
    support._sweep()
    assert list(tmp_path.iterdir()) == []


def test_a_subprocess_sees_the_settings_of_the_test(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in support.environment_of(settings).items():
        monkeypatch.setenv(variable, value)
    assert Settings() == settings
