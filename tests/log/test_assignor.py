from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from mesh_core.log.kafka_python.assignor import Cooperative, share

MEMBERS, TOPICS = "abcd", "xyz"
partitions = st.builds(TopicPartition, st.sampled_from(TOPICS), st.integers(0, 5))
subscriptions = st.dictionaries(
    st.sampled_from(MEMBERS), st.sets(st.sampled_from(TOPICS), min_size=1), min_size=1
)


@given(subscriptions, st.data())
def test_shares_are_even_and_a_second_look_moves_nothing(
    topics: Mapping[str, set[str]], data: st.DataObject
) -> None:
    readable = [
        part for part in data.draw(st.sets(partitions)) if part.topic in set().union(*topics.values())
    ]
    owners = {
        part: data.draw(st.sampled_from([member for member in topics if part.topic in topics[member]]))
        for part in readable
        if data.draw(st.booleans())
    }
    found = share(readable, topics, owners)
    assert found.keys() == set(readable)
    assert all(part.topic in topics[member] for part, member in found.items())
    load = Counter(found.values())
    assert not any(
        load[member] > load[other] + 1
        for part, member in found.items()
        for other in topics
        if part.topic in topics[other]
    )
    assert share(readable, topics, found) == found


def test_who_joins_takes_no_more_than_its_share_and_some_of_each_topic() -> None:
    parts = [TopicPartition(topic, number) for topic in "xy" for number in range(4)]
    topics = {"a": {"x", "y"}, "b": {"x", "y"}}
    found = share(parts, topics, dict.fromkeys(parts, "a"))
    assert Counter((part.topic, member) for part, member in found.items()) == {
        (topic, member): 2 for topic in "xy" for member in "ab"
    }


def member(name: str, topics: str, generation: int = -1, owned: str = "") -> SimpleNamespace:
    assignor = Cooperative()
    assignor.owned = lambda: [TopicPartition(topic, 0) for topic in owned]
    assignor.generation = generation
    sent = ConsumerProtocolSubscription.decode(assignor.metadata(set(topics)).encode())
    return SimpleNamespace(member_id=name, metadata=sent)


def assign(known: str, *members: SimpleNamespace) -> dict[str, str]:
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: {0} if topic in known else None)
    found = Cooperative().assign(cluster, members)
    return {name: "".join(part.topic for part in share.partitions()) for name, share in found.items()}


def test_what_moves_is_given_to_nobody_until_its_owner_let_go() -> None:
    owner, new = member("a", "xy", 3, owned="xy"), member("b", "xy")
    assert assign("xy", owner, new) == {"a": "y", "b": ""}
    assert assign("xy", member("a", "xy", 4, owned="y"), new) == {"a": "y", "b": "x"}


def test_of_two_claims_the_later_generation_is_right() -> None:
    assert assign("xy", member("a", "xy", 3, owned="x"), member("b", "xy", 2, owned="xy")) == {
        "a": "x",
        "b": "y",
    }


def test_what_the_leader_has_not_looked_up_stays_where_it_is() -> None:
    assert assign("x", member("a", "x"), member("b", "xy", 2, owned="y")) == {"a": "x", "b": "y"}


def test_a_claim_without_a_subscription_counts_for_nothing() -> None:
    assert assign("xy", member("a", "x", 3, owned="xy"), member("b", "xy", 3)) == {"a": "x", "b": "y"}
