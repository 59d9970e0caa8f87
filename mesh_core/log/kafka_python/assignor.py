"""Cooperative sharing among members that need not have subscribed to the same topics.

After a deploy some projectors of a group know of a new topic and others do not yet. kafka-python 3.0.12's own assignor
takes partitions of topics that the leader has not looked up yet away from whoever reads them. And its members claim
what they were last assigned: also what they have lost or unsubscribed from since, which nobody gets then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

_Owned = ConsumerProtocolSubscription.TopicPartition


class Cooperative(CooperativeStickyAssignor):  # type: ignore[misc]  # the client has no types
    """`cooperative-sticky`, as all clients know it (KIP-429; generations: KIP-792)."""

    version = 2
    """The first in which a member says of which generation its claims are."""

    def __init__(self) -> None:
        """`owned` is to be set to what tells the partitions that the consumer has."""
        super().__init__()
        self.owned: Callable[[], Collection[Any]] = tuple

    def metadata(self, topics: Collection[str]) -> Any:
        """See `AbstractPartitionAssignor.metadata`."""
        return ConsumerProtocolSubscription(
            version=self.version,
            topics=sorted(topics),
            user_data=b"",
            owned_partitions=[
                _Owned(topic=topic, partitions=numbers) for topic, numbers in _by_topic(self.owned()).items()
            ],
            generation_id=self.generation,
        )

    def assign(self, cluster: Any, members: Any) -> dict[str, Any]:
        """See `AbstractPartitionAssignor.assign`."""
        topics = {member.member_id: set(member.metadata.topics) for member in members}
        known = {topic: cluster.partitions_for_topic(topic) for topic in set().union(*topics.values())}
        owners: dict[Any, str] = {}
        for member in sorted(
            members, key=lambda member: member.metadata.generation_id
        ):  # the latest is right
            for owned in member.metadata.owned_partitions or ():
                if owned.topic in topics[member.member_id]:
                    owners |= {TopicPartition(owned.topic, n): member.member_id for n in owned.partitions}
        partitions = {TopicPartition(topic, n) for topic, numbers in known.items() for n in numbers or ()}
        partitions |= {part for part in owners if known[part.topic] is None}
        shares: dict[str, list[Any]] = {member: [] for member in topics}
        for part, member in share(partitions, topics, owners).items():
            if (
                owners.get(part, member) == member
            ):  # else its owner lets go of it first, and the group joins again
                shares[member].append(part)
        return {
            member: ConsumerProtocolAssignment(0, list(_by_topic(share).items()), b"")
            for member, share in shares.items()
        }


def share(
    partitions: Collection[Any], topics: Mapping[str, Collection[str]], owners: Mapping[Any, str]
) -> dict[Any, str]:
    """Who is to read each partition: as few as possible move from their `owners`, and the shares become even.

    Even: whoever has two more than another has nothing that the other could read. `topics` are each member's.
    """
    readers = {p: [member for member in sorted(topics) if p.topic in topics[member]] for p in partitions}
    found = {part: owner for part, owner in owners.items() if part in readers}
    load = Counter(found.values())

    def lightest(part: Any) -> str:
        return min(readers[part], key=load.__getitem__)

    for part in sorted(readers.keys() - found.keys(), key=lambda part: (len(readers[part]), part)):
        found[part] = lightest(part)
        load[found[part]] += 1
    turns = sorted(found, key=lambda part: (part.partition, part.topic))  # some of each topic move
    uneven = True
    while uneven:  # ends, as each move makes the sum of the loads' squares smaller
        uneven = False
        for part in turns:
            old, new = found[part], lightest(part)
            if load[old] > load[new] + 1:
                found[part], uneven = new, True
                load[old] -= 1
                load[new] += 1
    return found


def _by_topic(partitions: Collection[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        found.setdefault(topic, []).append(number)
    return found
