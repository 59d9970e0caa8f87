"""What a group of consumers promises, on a real Kafka: whoever joins or leaves disturbs only what moves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle

import confluent_kafka
import pytest
from kafka.admin import KafkaAdminClient, MemberToRemove

from mesh_core.log import Consumer, Driver, KafkaConfig, LogError, Producer, TopicPartition, connect
from tests.log.reading import Record, Starts, read_till_error, records
from tests.support.services import Services

Topics = Callable[[int], str]


@pytest.fixture
def producer(driver: Driver) -> Iterator[Producer]:
    with driver.producer() as producer:
        yield producer


@pytest.fixture
def group(unique: Callable[[str], str]) -> str:
    return unique("group")


def everything(*topics: str, partitions: int = 4) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for topic in topics for number in range(partitions)}


def owned(consumer: Consumer) -> set[TopicPartition]:
    return set(consumer.positions().offsets)


def poll_until(done: Callable[[], bool], *consumers: Consumer, seconds: float = 40.0) -> list[Record]:
    """Polls all of them in turn until it is done; what they read."""
    found: list[Record] = []
    deadline = time.monotonic() + seconds
    for consumer in cycle(consumers):
        if done():
            return found
        assert time.monotonic() < deadline, [sorted(owned(consumer)) for consumer in consumers]
        found += records(consumer.poll(100, 0.02))
    raise AssertionError("no consumers")


def shared(wanted: set[TopicPartition], *consumers: Consumer) -> Callable[[], bool]:
    """Whether the consumers have all of it, evenly."""

    def done() -> bool:
        shares = [owned(consumer) for consumer in consumers]
        sizes = [len(share) for share in shares]
        return set().union(*shares) == wanted and sum(sizes) == len(wanted) and max(sizes) - min(sizes) <= 1

    return done


def idle(*consumers: Consumer, seconds: float = 3.0) -> list[Record]:
    """Polls on for longer than two heartbeats, in which a further join would show."""
    end = time.monotonic() + seconds
    return poll_until(lambda: time.monotonic() > end, *consumers)


def told(calls: list[set[TopicPartition]]) -> list[set[TopicPartition]]:
    return [call for call in calls if call]


def test_who_joins_gets_a_share_and_nothing_else_moves(
    driver: Driver, producer: Producer, topic: Topics, group: str
) -> None:
    name = topic(4)
    one, two = Starts(), Starts()
    with driver.consumer(group) as first, driver.consumer(group) as second:
        first.subscribe([name], one)
        poll_until(shared(everything(name), first), first)
        assert told(one.assigned_calls) == [everything(name)]
        first.pause(everything(name))
        second.subscribe([name], two)
        poll_until(shared(everything(name), first, second), first, second)
        idle(first, second)
        moved = owned(second)
        assert told(two.assigned_calls) == [moved]
        assert told(one.assigned_calls) == [everything(name)]
        assert told(one.revoked_calls) == [moved]
        assert owned(first) == first.paused() == everything(name) - moved
        assert two.revoked_calls == one.lost_calls == two.lost_calls == []
        for part in everything(name):
            producer.send(name, b"key", str(part.partition).encode(), partition=part.partition).result(10)
        assert {part for part, _, _ in idle(first, second, seconds=1)} == moved
        first.resume(everything(name))
        assert {part for part, _, _ in idle(first, second, seconds=1)} == everything(name) - moved


def test_what_stays_is_read_while_the_group_waits_for_a_slow_member(
    driver: Driver, producer: Producer, topic: Topics, group: str
) -> None:
    name = topic(6)
    wanted = everything(name, partitions=6)
    with driver.consumer(group) as first, driver.consumer(group) as slow, driver.consumer(group) as third:
        first.subscribe([name], one := Starts())
        slow.subscribe([name], Starts())
        poll_until(shared(wanted, first, slow), first, slow)
        idle(first, slow)
        kept = owned(first)
        before = len(one.assigned_calls)
        third.subscribe([name], Starts())
        found = []
        for number in range(30):
            for part in kept:
                producer.send(name, b"key", str(number).encode(), partition=part.partition)
            found += idle(first, third, seconds=0.3)  # and slow does not poll, for longer than its session
        offsets = Counter(part for part, _, _ in found)
        assert {offsets[part] for part in owned(first)} == {30}
        assert len(offsets) == len(kept)
        assert len(one.assigned_calls) == before
        assert one.lost_calls == []
        poll_until(shared(wanted, first, slow, third), first, slow, third)


def test_whoever_is_busy_while_a_join_is_answered_stays_a_member(
    driver: Driver, topic: Topics, group: str
) -> None:
    name = topic(6)
    wanted = everything(name, partitions=6)
    with driver.consumer(group) as first, driver.consumer(group) as busy, driver.consumer(group) as third:
        first.subscribe([name], Starts())
        busy.subscribe([name], listener := Starts())
        poll_until(shared(wanted, first, busy), first, busy)
        idle(first, busy)
        third.subscribe([name], Starts())
        idle(third, busy)  # it wishes to join again, as the group asks; that waits for the first
        idle(first, third, seconds=9)  # longer than a session
        assert listener.lost_calls == []
        poll_until(shared(wanted, first, busy, third), first, busy, third)
        assert listener.lost_calls == []


def test_who_leaves_gives_its_share_to_those_that_stay(driver: Driver, topic: Topics, group: str) -> None:
    name = topic(4)
    one, two = Starts(), Starts()
    with driver.consumer(group) as first:
        with driver.consumer(group) as second:
            first.subscribe([name], one)
            second.subscribe([name], two)
            poll_until(shared(everything(name), first, second), first, second)
            idle(first, second)
            freed, kept = owned(second), owned(first)
            heard, revoked = len(one.assigned_calls), len(one.revoked_calls)
        assert told(two.revoked_calls)[-1] == freed
        poll_until(shared(everything(name), first), first)
        assert told(one.assigned_calls[heard:]) == [freed]
        assert told(one.revoked_calls[revoked:]) == []
        assert kept == everything(name) - freed


def test_an_instance_that_restarts_moves_nothing(
    driver: Driver, producer: Producer, topic: Topics, group: str
) -> None:
    name = topic(4)
    with driver.consumer(group, instance_id="projector-1") as first:
        first.subscribe([name], one := Starts())
        second = driver.consumer(group, instance_id="projector-2")
        with second:
            second.subscribe([name], Starts())
            poll_until(shared(everything(name), first, second), first, second)
            idle(first, second)
            before = owned(second)
        heard = (len(told(one.assigned_calls)), len(told(one.revoked_calls)))
        with driver.consumer(group, instance_id="projector-2") as again:
            again.subscribe([name], two := Starts())
            begun = time.monotonic()
            poll_until(lambda: owned(again) == before, again)  # the other need not even poll
            assert time.monotonic() - begun < 5
            idle(first, again)
            assert told(two.assigned_calls) == [before]
            assert heard == (len(told(one.assigned_calls)), len(told(one.revoked_calls)))
            assert owned(first) | before == everything(name)


def test_members_may_know_of_different_topics(driver: Driver, topic: Topics, group: str) -> None:
    """As after a deploy that brings a topic and drops one, until every projector has heard of it."""
    old, known, new = topic(4), topic(4), topic(4)
    with driver.consumer(group) as first, driver.consumer(group) as second:
        first.subscribe([old, known], one := Starts())
        second.subscribe([old, known], two := Starts())
        poll_until(shared(everything(old, known), first, second), first, second)
        idle(first, second)
        second.subscribe([known, new], two)
        poll_until(
            lambda: (
                owned(first) | owned(second) == everything(old, known, new)
                and everything(old) <= owned(first)
                and everything(new) <= owned(second)
            ),
            first,
            second,
        )
        first.subscribe([known, new], one)
        poll_until(shared(everything(known, new), first, second), first, second)
        idle(first, second)
        assert shared(everything(known, new), first, second)()
        assert one.lost_calls == two.lost_calls == []


def test_a_new_topic_leaves_the_others_alone(driver: Driver, topic: Topics, group: str) -> None:
    known, new = topic(4), topic(4)
    with driver.consumer(group) as consumer:
        consumer.subscribe([known], listener := Starts())
        poll_until(shared(everything(known), consumer), consumer)
        consumer.subscribe([known, new], listener)
        poll_until(shared(everything(known, new), consumer), consumer)
        assert told(listener.assigned_calls) == [everything(known), everything(new)]
        assert told(listener.revoked_calls) == []


@pytest.mark.parametrize("names", [("kafka-python", "confluent-kafka"), ("confluent-kafka", "kafka-python")])
def test_consumers_of_both_clients_share_a_group(
    services: Services, topic: Topics, group: str, names: tuple[str, str]
) -> None:
    """Whichever leads: each partition is read by one at a time, and all of it once, by positions."""
    name, count = topic(6), 40
    wanted = everything(name, partitions=6)
    drivers = [connect(KafkaConfig(services.kafka_bootstrap_servers, driver=driver)) for driver in names]
    done: dict[TopicPartition, int] = {}  # what a projector keeps in its checkpoints

    class Checkpoints(Starts):
        def assigned(self, partitions):  # type: ignore[no-untyped-def]
            return {**super().assigned(partitions), **{part: done.get(part, 0) for part in partitions}}

    def read(found: list[Record], *consumers: Consumer) -> None:
        for consumer in consumers:
            for chunk in consumer.poll(5, 0.02):
                assert chunk.start == done.get(chunk.partition, 0)
                done[chunk.partition] = chunk.next_offset
                found += records([chunk])

    found: list[Record] = []
    listeners = [Checkpoints(), Checkpoints()]
    with drivers[0].producer() as producer, drivers[0].consumer(group) as first:
        first.subscribe([name], listeners[0])
        poll_until(shared(wanted, first), first)
        with drivers[1].consumer(group) as second:
            second.subscribe([name], listeners[1])
            deadline = time.monotonic() + 40
            for number in range(count):
                for part in wanted:
                    producer.send(name, b"key", str(number).encode(), partition=part.partition)
                end = time.monotonic() + 0.1
                while time.monotonic() < end:
                    read(found, first, second)
            while not shared(wanted, first, second)():
                assert time.monotonic() < deadline
                read(found, first, second)
            assert told(listeners[1].assigned_calls) == [owned(second)]
            assert told(listeners[0].revoked_calls) == [owned(second)]
        deadline = time.monotonic() + 40
        while not shared(wanted, first)() or len(found) < count * len(wanted):
            assert time.monotonic() < deadline
            read(found, first)
    expected: Mapping[tuple[TopicPartition, int], int] = {
        (part, offset): 1 for part in wanted for offset in range(count)
    }
    assert Counter((part, offset) for part, offset, _ in found) == expected


def test_a_group_of_another_protocol_is_refused_loudly(
    driver: Driver, services: Services, topic: Topics, group: str
) -> None:
    """As of a projector that is started before those of an older release were stopped."""
    name = topic(1)
    eager = confluent_kafka.Consumer(
        {
            "bootstrap.servers": services.kafka_bootstrap_servers,
            "group.id": group,
            "partition.assignment.strategy": "roundrobin",
        }
    )
    eager.subscribe([name])
    try:
        deadline = time.monotonic() + 20
        while not eager.assignment():
            assert time.monotonic() < deadline
            eager.poll(0.1)
        with driver.consumer(group) as consumer:
            consumer.subscribe([name], Starts())
            _, error = read_till_error(consumer, LogError)
            assert "protocol" in str(error).lower()
    finally:
        eager.close()


@pytest.mark.parametrize("by", ["heartbeat", "join"])
def test_whom_the_group_took_for_dead_loses_all_and_starts_anew(
    driver: Driver, services: Services, topic: Topics, group: str, by: str
) -> None:
    """Whether it learns that from a heartbeat, or from an answer to its wish to join again."""
    name, new = topic(4), topic(4)
    one, two = Starts(), Starts()
    with driver.consumer(group) as first, driver.consumer(group) as second:
        first.subscribe([name], one)
        poll_until(shared(everything(name), first), first)
        admin = KafkaAdminClient(bootstrap_servers=services.kafka_bootstrap_servers)
        try:
            (member,) = admin.describe_groups([group])[group]["members"]
            admin.remove_group_members(group, [MemberToRemove(member_id=member["member_id"])])
        finally:
            admin.close()
        topics = [name, new] if by == "join" else [name]
        if by == "join":
            first.subscribe(topics, one)
        second.subscribe(topics, two)
        poll_until(lambda: bool(one.lost_calls), first, second)
        poll_until(shared(everything(*topics), first, second), first, second)
        idle(first, second)
        assert shared(everything(*topics), first, second)()
        assert one.lost_calls == [everything(name)]
        assert owned(first) <= set().union(*one.assigned_calls[1:])
