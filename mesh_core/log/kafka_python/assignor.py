"""Round robin over members that need not have subscribed to the same topics.

After a deploy some projectors of a group know of a new topic and others do not yet. kafka-python 3.0.12 raises KeyError
then (its loop takes the pair of instance and member for the member).
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

from kafka import TopicPartition
from kafka.coordinator.assignors.abstract import ConsumerProtocolAssignment
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor


class RoundRobin(RoundRobinPartitionAssignor):  # type: ignore[misc]  # the client has no types
    """`roundrobin`, as all clients know it: partitions in order, static members first."""

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> dict[str, Any]:
        """See `AbstractPartitionAssignor.assign`."""
        topics = {member.member_id: set(member.metadata.topics) for member in members}
        partitions = sorted(
            TopicPartition(topic, number)
            for topic in set().union(*topics.values())
            for number in cluster.partitions_for_topic(topic) or ()
        )
        static = sorted(
            (m.group_instance_id, m.member_id) for m in members if m.group_instance_id is not None
        )
        dynamic = sorted(m.member_id for m in members if m.group_instance_id is None)
        turns = cycle([*(member for _, member in static), *dynamic])
        found: dict[str, dict[str, list[int]]] = {member: {} for member in topics}
        for topic, number in partitions:
            member = next(member for member in turns if topic in topics[member])
            found[member].setdefault(topic, []).append(number)
        return {
            member: ConsumerProtocolAssignment(cls.version, sorted(mine.items()), b"")
            for member, mine in found.items()
        }
