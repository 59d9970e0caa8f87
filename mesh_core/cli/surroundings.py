"""What most commands need: the settings, where Kafka and Postgres are, a driver."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mesh_core import stack
from mesh_core.log import Driver, KafkaConfig, LogUnavailable, connect
from mesh_core.log.archive import with_archive
from mesh_core.settings import Settings, load_settings


@dataclass(frozen=True)
class Surroundings:
    """One mesh, as the settings describe it."""

    settings: Settings
    addresses: stack.StackAddresses

    @property
    def database_url(self) -> str:
        """Where Postgres is, password included."""
        return self.addresses.database_url

    @cached_property
    def driver(self) -> Driver:
        """The way to Kafka; nothing is connected yet."""
        return connect(KafkaConfig.from_settings(self.settings, self.addresses.kafka_bootstrap_servers))

    def history_driver(self) -> Driver:
        """The way to all history: Kafka, which answers, and before it the archive of the settings, if they name one."""
        return with_archive(self.reachable_driver(), self.settings.archive)

    def reachable_driver(self) -> Driver:
        """The way to Kafka, which answers. Raises LogUnavailable at once where it does not."""
        if not self.driver.reachable(3.0):
            raise LogUnavailable(
                f"Kafka cannot be reached at {self.addresses.kafka_bootstrap_servers}.",
                remedy="Check that it runs and that MESH_KAFKA_BOOTSTRAP_SERVERS is right.",
            )
        return self.driver


def find_surroundings() -> Surroundings:
    """From the environment. Raises MalformedSetting, StackNotRunning."""
    settings = load_settings()
    return Surroundings(settings, stack.resolve(settings))
