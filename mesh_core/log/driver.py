"""From a configuration to the clients of one Kafka cluster."""

from __future__ import annotations

from dataclasses import dataclass

from mesh_core.log.config import KafkaConfig
from mesh_core.log.errors import LogConfigurationError
from mesh_core.log.interface import Admin, Consumer, Driver, Producer
from mesh_core.log.reach import reachable


def connect(config: KafkaConfig) -> Driver:
    """The driver that the configuration names; connects to nothing yet.

    Raises LogConfigurationError if it needs a package that is not installed.
    """
    if config.driver == "kafka-python":
        return KafkaPythonDriver(config)
    return ConfluentDriver(config)


@dataclass(frozen=True, slots=True)
class KafkaPythonDriver:
    """Everything through kafka-python. A client is imported when it is first asked for: it takes a sixth of a second."""

    config: KafkaConfig

    def consumer(self, group: str | None = None, instance_id: str | None = None) -> Consumer:
        """See `Driver.consumer`."""
        from mesh_core.log.kafka_python.consumer import KafkaPythonConsumer

        return KafkaPythonConsumer(self.config, group, instance_id)

    def producer(self) -> Producer:
        """See `Driver.producer`."""
        from mesh_core.log.kafka_python.producer import KafkaPythonProducer

        return KafkaPythonProducer(self.config)

    def admin(self) -> Admin:
        """See `Driver.admin`."""
        from mesh_core.log.kafka_python.admin import KafkaPythonAdmin

        return KafkaPythonAdmin(self.config)

    def reachable(self, timeout: float = 1.0) -> bool:
        """See `Driver.reachable`."""
        return reachable(self.config.bootstrap, timeout)


class ConfluentDriver(KafkaPythonDriver):
    """Reads and writes through confluent-kafka; topics are looked after by kafka-python."""

    def __init__(self, config: KafkaConfig) -> None:
        """Raises LogConfigurationError if confluent-kafka is not installed."""
        super().__init__(config)
        try:
            import confluent_kafka  # noqa: F401
        except ImportError as error:
            raise LogConfigurationError(
                "The driver confluent-kafka needs the package of that name.",
                remedy="Install it with `pip install flexmesh[fast]`, or set MESH_KAFKA_DRIVER=kafka-python.",
            ) from error

    def consumer(self, group: str | None = None, instance_id: str | None = None) -> Consumer:
        """See `Driver.consumer`."""
        from mesh_core.log.confluent.consumer import ConfluentConsumer

        return ConfluentConsumer(self.config, group, instance_id)

    def producer(self) -> Producer:
        """See `Driver.producer`."""
        from mesh_core.log.confluent.producer import ConfluentProducer

        return ConfluentProducer(self.config)
