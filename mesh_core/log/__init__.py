"""The log: producing to Kafka, consuming from it, and positions in it.

The only package that imports a Kafka client. `connect(KafkaConfig(...))` gives a driver; everything else
is told by the types of `interface`, and holds for every driver.
"""

from mesh_core.log.config import KafkaConfig
from mesh_core.log.driver import connect
from mesh_core.log.errors import (
    DeliveryFailed,
    DeliveryTimeout,
    EnvelopeError,
    LogConfigurationError,
    LogError,
    LogUnavailable,
    MessageTooLarge,
    OffsetOutOfRange,
    PositionError,
    TopicMissing,
)
from mesh_core.log.interface import (
    Admin,
    AssignmentListener,
    Chunk,
    Consumer,
    Delivered,
    Driver,
    Headers,
    Outgoing,
    Producer,
    SentTogether,
    TopicFacts,
)
from mesh_core.log.position import Position, TopicPartition

__all__ = [
    "Admin",
    "AssignmentListener",
    "Chunk",
    "Consumer",
    "Delivered",
    "DeliveryFailed",
    "DeliveryTimeout",
    "Driver",
    "EnvelopeError",
    "Headers",
    "KafkaConfig",
    "LogConfigurationError",
    "LogError",
    "LogUnavailable",
    "MessageTooLarge",
    "OffsetOutOfRange",
    "Outgoing",
    "Position",
    "PositionError",
    "Producer",
    "SentTogether",
    "TopicFacts",
    "TopicMissing",
    "TopicPartition",
    "connect",
]
