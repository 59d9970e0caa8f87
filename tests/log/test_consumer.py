"""What every driver's consumer promises, on a real Kafka."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import confluent_kafka
import confluent_kafka.admin
import pytest

from mesh_core.log import (
    Admin,
    Chunk,
    Consumer,
    Driver,
    LogError,
    OffsetOutOfRange,
    Position,
    Producer,
    TopicPartition,
)
from tests.log.reading import Starts, read, read_till_error, read_to, records, transactional
from tests.support.services import Services

Topics = Callable[[int], str]


@pytest.fixture
def producer(driver: Driver) -> Iterator[Producer]:
    with driver.producer() as producer:
        yield producer


@pytest.fixture
def consumer(driver: Driver) -> Iterator[Consumer]:
    with driver.consumer() as consumer:
        yield consumer


def fill(producer: Producer, topic: str, values: list[bytes], partition: int | None = 0) -> Position:
    sent = [producer.send(topic, b"key", value, partition=partition) for value in values]
    delivered = [future.result(30) for future in sent]
    return Position.after((record.partition, record.offset) for record in delivered)


def truncate(services: Services, part: TopicPartition, offset: int) -> None:
    client = confluent_kafka.admin.AdminClient({"bootstrap.servers": services.kafka_bootstrap_servers})
    where = confluent_kafka.TopicPartition(part.topic, part.partition, offset)
    for future in client.delete_records([where]).values():
        future.result(10)


def test_a_record_comes_back_whole(consumer: Consumer, producer: Producer, topic: Topics) -> None:
    part = TopicPartition(topic(1), 0)
    headers = [("content-type", b"text/plain"), ("twice", b"1"), ("twice", b"2")]
    producer.send(part.topic, b"k", b"v", timestamp_ms=1_600_000_000_123, headers=headers).result(10)
    producer.send(part.topic, b"k", None, timestamp_ms=1_600_000_000_124).result(10)
    producer.send(part.topic, None, b"", timestamp_ms=1_600_000_000_125).result(10)
    consumer.assign({part: 0})
    chunks: list[Chunk] = []
    while sum(len(chunk.offsets) for chunk in chunks) < 3:
        chunks += consumer.poll(10, 5)
    keys = [key for chunk in chunks for key in chunk.keys]
    assert records(chunks) == [(part, 0, b"v"), (part, 1, None), (part, 2, b"")]
    assert keys == [b"k", b"k", None]
    assert [at for chunk in chunks for at in chunk.timestamps] == [1_600_000_000_123 + n for n in range(3)]
    assert list(chunks[0].headers[0]) == headers
    assert chunks[-1].next_offset == 3


def test_a_chunk_without_headers_has_no_list_of_them(
    consumer: Consumer, producer: Producer, topic: Topics
) -> None:
    part = TopicPartition(topic(1), 0)
    fill(producer, part.topic, [b"a", b"b"])
    consumer.assign({part: 0})
    chunks = consumer.poll(10, 10)
    assert records(chunks)
    assert chunks[0].headers == []


def test_an_empty_topic_gives_nothing_and_keeps_its_position(consumer: Consumer, topic: Topics) -> None:
    part = TopicPartition(topic(1), 0)
    consumer.assign({part: 0})
    started = time.monotonic()
    assert consumer.poll(10, 0.5) == []
    assert 0.4 < time.monotonic() - started < 8
    assert consumer.positions() == Position({part: 0})
    assert consumer.beginning_offsets([part]) == consumer.end_offsets([part]) == {part: 0}
    assert consumer.last_error is None


def test_forty_partitions_are_all_read(consumer: Consumer, producer: Producer, topic: Topics) -> None:
    name = topic(40)
    sent = [producer.send(name, f"key-{n}".encode(), str(n).encode()) for n in range(4_000)]
    end = Position.after((where.partition, where.offset) for where in (f.result(30) for f in sent))
    start = {TopicPartition(name, partition): 0 for partition in range(40)}
    consumer.assign(start)
    found = read_to(consumer, end.offsets)
    assert Counter(value for _, _, value in found) == Counter(str(n).encode() for n in range(4_000))
    for part in start:
        offsets = [offset for where, offset, _ in found if where == part]
        assert offsets == list(range(len(offsets)))


def test_no_poll_returns_more_than_it_was_asked_for(
    consumer: Consumer, producer: Producer, topic: Topics
) -> None:
    part = TopicPartition(topic(1), 0)
    fill(producer, part.topic, [str(n).encode() for n in range(2_000)])
    consumer.assign({part: 0})
    found: list[bytes | None] = []
    while len(found) < 2_000:
        batch = records(consumer.poll(700, 5))
        assert len(batch) <= 700
        found += [value for _, _, value in batch]
    assert found == [str(n).encode() for n in range(2_000)]


def test_a_record_is_returned_as_soon_as_it_is_there(
    consumer: Consumer, producer: Producer, topic: Topics
) -> None:
    part = TopicPartition(topic(1), 0)
    fill(producer, part.topic, [b"warm"])
    consumer.assign({part: 0})
    read(consumer, 1)
    waits = []
    for _ in range(20):
        fill(producer, part.topic, [b"x"])
        sent = time.monotonic()
        read(consumer, 1)
        waits.append(time.monotonic() - sent)
    assert sorted(waits)[10] < 0.05


def test_aborted_transactions_are_skipped_and_counted_in_the_position(
    services: Services, consumer: Consumer, topic: Topics
) -> None:
    part = TopicPartition(topic(1), 0)
    writer = transactional(services.kafka_bootstrap_servers, part.topic)
    consumer.assign({part: 0})

    writer.begin_transaction()
    writer.produce(part.topic, b"committed", partition=0)
    writer.commit_transaction()
    assert read_to(consumer, {part: 2}) == [(part, 0, b"committed")]  # offset 1 is the commit marker

    writer.begin_transaction()
    for _ in range(3):
        writer.produce(part.topic, b"aborted", partition=0)
    writer.flush()
    assert consumer.poll(10, 0.3) == []
    assert consumer.end_offsets([part]) == {part: 2}  # nobody may read further while it is open
    writer.abort_transaction()
    assert read_to(consumer, {part: 6}) == []
    assert consumer.end_offsets([part]) == {part: 6}

    writer.begin_transaction()
    writer.produce(part.topic, b"again", partition=0)
    writer.commit_transaction()
    assert read_to(consumer, {part: 8}) == [(part, 6, b"again")]


def test_a_log_of_only_aborted_records_is_read_to_its_end(
    services: Services, consumer: Consumer, topic: Topics
) -> None:
    part = TopicPartition(topic(1), 0)
    writer = transactional(services.kafka_bootstrap_servers, part.topic)
    writer.begin_transaction()
    writer.produce(part.topic, b"aborted", partition=0)
    writer.flush()
    writer.abort_transaction()
    consumer.assign({part: 0})
    chunks = consumer.poll(10, 10)
    assert [(chunk.offsets, chunk.next_offset) for chunk in chunks] == [([], 2)]
    assert consumer.poll(10, 0.3) == []


def test_a_cut_topic_is_an_error_and_never_a_reset(
    services: Services, consumer: Consumer, producer: Producer, topic: Topics
) -> None:
    part = TopicPartition(topic(1), 0)
    other = TopicPartition(topic(1), 0)
    fill(producer, part.topic, [b"0", b"1", b"2", b"3"])
    fill(producer, other.topic, [b"other"])
    truncate(services, part, 3)
    consumer.assign({part: 1, other: 0})
    seen = []
    for _ in range(2):
        found, error = read_till_error(consumer, OffsetOutOfRange)
        seen += found
        assert isinstance(error, OffsetOutOfRange)
        assert (error.partition, error.offset, error.beginning, error.end) == (part, 1, 3, 4)
        assert "holds offsets 3 to 4" in str(error)
    consumer.pause([part])
    while not seen:
        seen += records(consumer.poll(10, 5))
    assert seen == [(other, 0, b"other")]
    consumer.seek(part, 3)
    consumer.resume([part])
    assert read(consumer, 1) == [(part, 3, b"3")]


def test_an_offset_beyond_the_end_is_an_error(consumer: Consumer, producer: Producer, topic: Topics) -> None:
    part = TopicPartition(topic(1), 0)
    fill(producer, part.topic, [b"0"])
    consumer.assign({part: 7})
    found, error = read_till_error(consumer, OffsetOutOfRange)
    assert found == []
    assert isinstance(error, OffsetOutOfRange)
    assert (error.offset, error.end) == (7, 1)


def test_seek_pause_and_resume(consumer: Consumer, producer: Producer, topic: Topics) -> None:
    name = topic(2)
    one, two = TopicPartition(name, 0), TopicPartition(name, 1)
    fill(producer, name, [b"a", b"b", b"c"], partition=0)
    fill(producer, name, [b"x", b"y"], partition=1)
    consumer.assign({one: 0, two: 0})
    assert len(read(consumer, 5)) == 5
    consumer.seek(one, 1)
    assert read(consumer, 2) == [(one, 1, b"b"), (one, 2, b"c")]
    consumer.pause([one])
    assert consumer.paused() == {one}
    fill(producer, name, [b"d"], partition=0)
    fill(producer, name, [b"z"], partition=1)
    assert read(consumer, 1) == [(two, 2, b"z")]
    assert records(consumer.poll(10, 0.3)) == []
    consumer.resume([one, two])
    assert consumer.paused() == set()
    assert read(consumer, 1) == [(one, 3, b"d")]
    with pytest.raises(LogError, match="not read by this consumer"):
        consumer.seek(TopicPartition("elsewhere", 0), 0)


def test_records_fetched_before_a_pause_are_not_lost(
    consumer: Consumer, producer: Producer, topic: Topics
) -> None:
    part = TopicPartition(topic(1), 0)
    fill(producer, part.topic, [str(n).encode() for n in range(1_000)])
    consumer.assign({part: 0})
    found = records(consumer.poll(10, 10))
    consumer.pause([part])
    assert records(consumer.poll(10, 0.3)) == []
    consumer.resume([part])
    found += read(consumer, 1_000 - len(found))
    assert [offset for _, offset, _ in found] == list(range(1_000))


def test_offsets_for_a_time(consumer: Consumer, producer: Producer, topic: Topics) -> None:
    part = TopicPartition(topic(1), 0)
    for at in (1_000, 2_000, 3_000):
        producer.send(part.topic, b"k", b"v", timestamp_ms=at).result(10)
    assert [consumer.offsets_for_time([part], at)[part] for at in (0, 1_001, 3_000, 3_001)] == [0, 1, 2, 3]


def test_a_group_starts_where_the_listener_says_not_at_the_committed_hint(
    driver: Driver, producer: Producer, topic: Topics, unique: Callable[[str], str]
) -> None:
    name, group = topic(1), unique("group")
    part = TopicPartition(name, 0)
    fill(producer, name, [b"0", b"1", b"2", b"3"])
    with driver.consumer(group) as first:
        first.subscribe([name], Starts())
        assert len(read(first, 4)) == 4
        first.commit_hint(Position({part: 4}))
        first.poll(10, 0.5)
    listener = Starts({part: 2})
    with driver.consumer(group) as second:
        second.subscribe([name], listener)
        assert read(second, 2) == [(part, 2, b"2"), (part, 3, b"3")]
        assert listener.assigned_calls == [{part}]
    assert listener.revoked_calls == [{part}]


def test_a_listener_that_fails_is_asked_again_and_nothing_is_delivered_meanwhile(
    driver: Driver, producer: Producer, topic: Topics, unique: Callable[[str], str]
) -> None:
    name, group = topic(1), unique("group")
    part = TopicPartition(name, 0)
    fill(producer, name, [b"0", b"1", b"2"])
    with driver.consumer(group) as earlier:  # a hint that must not be taken for a start
        earlier.subscribe([name], Starts())
        read(earlier, 3)
        earlier.commit_hint(Position({part: 2}))
        earlier.poll(10, 0.5)
    listener = Starts({part: 1}, failures=3)
    with driver.consumer(group) as consumer:
        consumer.subscribe([name], listener)
        deadline = time.monotonic() + 20
        while len(listener.assigned_calls) < 2:
            assert time.monotonic() < deadline
            assert consumer.poll(10, 0.05) == []
        assert consumer.last_error is not None
        assert "Postgres is away" in consumer.last_error
        assert consumer.positions() == Position()
        assert read(consumer, 2) == [(part, 1, b"1"), (part, 2, b"2")]
        assert len(listener.assigned_calls) == 4
        assert consumer.last_error is None


def test_a_group_is_joined_even_by_polls_that_are_too_short_for_it(
    driver: Driver, producer: Producer, topic: Topics, unique: Callable[[str], str]
) -> None:
    name = topic(1)
    fill(producer, name, [b"0"])
    for _ in range(3):
        with driver.consumer(unique("group")) as consumer:
            consumer.subscribe([name], Starts())
            found: list[object] = []
            deadline = time.monotonic() + 10
            while not found:
                assert time.monotonic() < deadline
                found += records(consumer.poll(10, 0.004))


def test_the_listener_is_called_on_the_thread_that_polls(
    driver: Driver, topic: Topics, unique: Callable[[str], str]
) -> None:
    threads = set()

    class Listener(Starts):
        def assigned(self, partitions):  # type: ignore[no-untyped-def]
            threads.add(threading.get_ident())
            return super().assigned(partitions)

    listener = Listener()
    with driver.consumer(unique("group")) as consumer:
        consumer.subscribe([topic(1)], listener)
        while not listener.assigned_calls:
            consumer.poll(10, 0.1)
    assert threads == {threading.get_ident()}


def test_a_recreated_topic_has_another_id(admin: Admin, topic: Topics) -> None:
    name = topic(3)
    before = admin.describe([name])[name]
    admin.delete_topic(name)
    assert admin.describe([name]) == {}
    after = admin.create_topic(name, 3)
    assert (after.partitions, after.cleanup_policy) == (before.partitions, before.cleanup_policy)
    assert after.topic_id != before.topic_id


def test_offsets_of_many_partitions_are_told_at_once(driver: Driver, topic: Topics) -> None:
    """Also while a fetch of partitions that are read to their end is under way: one by one they take 16 s."""
    name = topic(16)
    partitions = [TopicPartition(name, number) for number in range(16)]
    with driver.consumer() as consumer:
        consumer.assign(dict.fromkeys(partitions, 0))
        for _ in range(3):
            consumer.poll(100, 0.2)
        begun = time.monotonic()
        assert consumer.beginning_offsets(partitions) == consumer.end_offsets(partitions)
        assert time.monotonic() - begun < 8.0
