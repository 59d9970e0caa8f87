"""What can go wrong with the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_core.errors import DependencyUnavailable, MeshError, UsageError

if TYPE_CHECKING:
    from mesh_core.log.position import TopicPartition


class LogError(MeshError):
    """Kafka refused what was asked of it."""


class LogUnavailable(DependencyUnavailable):
    """Kafka cannot be reached."""


class LogConfigurationError(UsageError):
    """The settings for Kafka do not fit together."""


class PositionError(UsageError):
    """A position is not of the form {"topic": {"partition": next offset}}."""


class TopicMissing(LogError):
    """The topic does not exist."""


class MessageTooLarge(LogError):
    """The message is larger than the log accepts."""


class DeliveryTimeout(LogUnavailable):
    """Kafka did not acknowledge a record in time; it may or may not be in the log."""


class DeliveryFailed(LogError):
    """Kafka refused a record."""


class EnvelopeError(UsageError):
    """The event is not a CloudEvents 1.0 envelope."""


class OffsetOutOfRange(LogError):
    """The log no longer (or not yet) holds the next record to be read of a partition.

    `offset` is the one asked for; what is there are the offsets from `beginning` up to, not including,
    `end` (both None if Kafka did not say in time).
    """

    def __init__(
        self, partition: TopicPartition, offset: int, beginning: int | None = None, end: int | None = None
    ) -> None:
        held = "unknown offsets" if beginning is None or end is None else f"offsets {beginning} to {end}"
        super().__init__(
            f"Offset {offset} of {partition} is not in the log, which holds {held}.",
            remedy="The topic was cut, or deleted and created anew: nothing is skipped silently.",
        )
        self.partition = partition
        self.offset = offset
        self.beginning = beginning
        self.end = end
