"""An archive has exactly what its topic had, and reads with what the topic still has as one log, by both clients."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer as TransactionalProducer
from confluent_kafka import TopicPartition as ForeignPartition
from confluent_kafka.admin import AdminClient
from pyarrow import parquet

from mesh_core.log import Admin, Driver, KafkaConfig, LogError, Position, TopicPartition, connect
from mesh_core.log.archive import (
    ArchiveDamaged,
    ArchiveRefused,
    Selection,
    archived,
    export_topic,
    verify,
    writing,
)
from mesh_core.log.archive import export as exporting
from mesh_core.log.archive.manifest import Manifest
from mesh_core.log.cloudevents import encode_structured
from mesh_core.log.interface import Headers
from tests.log.reading import read, records
from tests.support.mesh import wait_for
from tests.support.services import Services

EPOCH = 1_700_000_000_000
Record = tuple[int, int, bytes | None, bytes | None, Headers]


def value(n: int) -> bytes:
    return encode_structured(
        {
            "specversion": "1.0", "id": f"e{n}", "source": "/s", "type": f"sales.order.t{n % 2}.v1",
            "subject": str(n), "time": "2026-01-01T00:00:00Z", "data": {"n": n},
        }
    )  # fmt: skip


@dataclass
class Topic:
    """A topic of two partitions, with what a log can have."""

    name: str
    driver: Driver
    admin: Admin
    bootstrap: str

    def at(self, partition: int) -> TopicPartition:
        return TopicPartition(self.name, partition)

    @property
    def facts(self) -> Any:
        return self.admin.describe([self.name])[self.name]

    def write(self, first: int, count: int, partition: int = 0) -> None:
        with self.driver.producer() as producer:
            for n in range(first, first + count):
                producer.send(
                    self.name,
                    str(n).encode(),
                    value(n),
                    timestamp_ms=EPOCH + n,
                    headers=(("content-type", b"application/cloudevents+json"), ("x", b"\x00\xff")),
                    partition=partition,
                )

    def write_oddly(self) -> None:
        """No key, no value, no headers, a large value, binary mode; and a transaction that was aborted, one that was not."""
        with self.driver.producer() as producer:
            for key, content, headers in (
                (None, b"x", ()),
                (b"k", None, ()),
                (b"big", b"y" * 500_000, ()),
                (b"k", b'{"a": 1}', (("ce_specversion", b"1.0"), ("ce_type", b"a.b.c.v1"), ("ce_id", b"1"))),
                (b"\xff", b"\xff", (("twice", b"1"), ("twice", b"2"))),
            ):
                producer.send(self.name, key, content, headers=headers, partition=1)
        transactions = TransactionalProducer(
            {"bootstrap.servers": self.bootstrap, "transactional.id": self.name}
        )
        transactions.init_transactions(30)
        for end in (transactions.abort_transaction, transactions.commit_transaction):
            transactions.begin_transaction()
            transactions.produce(self.name, b"value", b"key", partition=1)
            transactions.flush(30)
            end(30)

    def cut(self, partition: int, offset: int) -> None:
        """Delete records before an offset, as retention does."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.delete_records([ForeignPartition(self.name, partition, offset)]).values():
            future.result(10)

    def read(self, driver: Driver, begin: int = 0) -> dict[int, list[Record]]:
        """All records, as a consumer gives them; chunks must go on from one another."""
        partitions = [self.at(n) for n in range(2)]
        found: dict[int, list[Record]] = {0: [], 1: []}
        with driver.consumer(None) as consumer:
            starts, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            standing = {at: max(begin, starts[at]) for at in partitions if max(begin, starts[at]) < ends[at]}
            consumer.assign(standing)
            while any(offset < ends[at] for at, offset in standing.items()):
                for chunk in consumer.poll(7, 1.0):
                    assert chunk.start == standing[chunk.partition], chunk.partition
                    standing[chunk.partition] = chunk.next_offset
                    headers = chunk.headers or [()] * len(chunk.offsets)
                    columns = zip(
                        chunk.offsets,
                        chunk.timestamps,
                        chunk.keys,
                        chunk.values,
                        map(tuple, headers),
                        strict=True,
                    )
                    found[chunk.partition.partition] += list(columns)
            assert consumer.positions().restricted_to([self.name]).offsets == standing
        return found


@pytest.fixture
def topic(driver: Driver, services: Services, admin: Admin, topic: Callable[[int], str]) -> Topic:
    return Topic(topic(2), driver, admin, services.kafka_bootstrap_servers)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "RECORDS", 10)


def export(topic: Topic, root: Path, **selection: Any) -> exporting.Exported:
    return export_topic(topic.driver, topic.facts, root, Selection(**selection))


@pytest.mark.usefixtures("small")
def test_what_was_exported_and_then_deleted_reads_as_before(topic: Topic, tmp_path: Path) -> None:
    topic.write(0, 35)
    topic.write_oddly()
    before = topic.read(topic.driver)
    done = export(topic, tmp_path)
    assert done.records == sum(map(len, before.values())) == 35 + 6
    both = archived(topic.driver, tmp_path)
    assert topic.read(both) == before, "nothing is deleted yet"
    topic.write(100, 3)
    topic.cut(0, 33)
    topic.cut(1, 4)
    whole = topic.read(both)
    assert whole[1] == before[1]
    assert whole[0][:35] == before[0]
    assert [record[0] for record in whole[0]] == list(range(38))
    assert topic.read(both, begin=12)[0] == whole[0][12:]
    assert topic.read(both, begin=36)[0] == whole[0][36:]
    assert verify(tmp_path / topic.name) == []


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
@pytest.mark.usefixtures("small")
def test_exported_again_it_goes_on_and_removes_what_a_killed_export_left(
    topic: Topic, tmp_path: Path
) -> None:
    topic.write(0, 15)
    export(topic, tmp_path)
    folder = tmp_path / topic.name / "partition=0"
    (folder / f".{15:020}.part").write_bytes(b"half")
    (folder / f"{15:020}-{20:020}.parquet").write_bytes(b"not in the manifest")
    (folder / "notes.txt").write_text("mine")
    topic.write(15, 7)
    topic.cut(0, 10)
    again = export(topic, tmp_path)
    assert (again.records, again.position.offsets[topic.at(0)]) == (7, 22)
    assert export(topic, tmp_path).records == 0
    names = sorted(path.name for path in folder.iterdir())
    assert len([name for name in names if name.endswith(".parquet")]) == 2
    assert [name for name in names if not name.endswith(".parquet")] == ["notes.txt"]
    assert [record[0] for record in topic.read(archived(topic.driver, tmp_path))[0]] == list(range(22))


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_what_a_log_had_lost_before_the_first_export_is_said(topic: Topic, tmp_path: Path) -> None:
    assert export(topic, tmp_path).lacking.offsets == {}
    topic.write(0, 5)
    topic.cut(0, 3)
    assert export(topic, tmp_path).lacking.offsets == {topic.at(0): 3}
    assert export(topic, tmp_path).lacking.offsets == {topic.at(0): 3}


def test_times_are_found_in_what_is_archived(topic: Topic, tmp_path: Path) -> None:
    topic.write(0, 20)
    export(topic, tmp_path)
    with topic.driver.consumer(None) as consumer:
        before = {ms: consumer.offsets_for_time([topic.at(0)], EPOCH + ms) for ms in (-5, 0, 7, 19, 30)}
    topic.cut(0, 15)
    with archived(topic.driver, tmp_path).consumer(None) as consumer:
        assert {ms: consumer.offsets_for_time([topic.at(0)], EPOCH + ms) for ms in before} == before


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_what_would_leave_a_gap_is_refused(
    topic: Topic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic.write(0, 5)
    export(topic, tmp_path)
    topic.write(5, 5)
    topic.cut(0, 8)
    with pytest.raises(
        ArchiveRefused, match=r"starts at 8, but the archive ends at 5: what was between is gone"
    ):
        export(topic, tmp_path)
    with archived(topic.driver, tmp_path).consumer(None) as consumer:
        assert consumer.beginning_offsets([topic.at(0)]) == {topic.at(0): 8}, (
            "it does not go on from the archive"
        )
    assert f"the log of {topic.at(0)} starts at 8, and it has its records until 5" in caplog.text


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_a_selection_stands_for_nothing_and_is_not_gone_on_with(
    topic: Topic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic.write(0, 20)
    chosen = export(
        topic,
        tmp_path,
        takes=lambda found: found.get("type") == "sales.order.t1.v1",
        said={"types": ["…t1…"]},
    )
    assert chosen.records == 10
    ranged = export(
        topic, tmp_path / "b", begin=Position({topic.at(0): 3}),
        end=datetime.fromtimestamp((EPOCH + 9) / 1000, UTC), said={"from": "3"},
    )  # fmt: skip
    assert ranged.records == 6
    topic.cut(0, 10)
    with archived(topic.driver, tmp_path).consumer(None) as consumer:
        assert consumer.beginning_offsets([topic.at(0)]) == {topic.at(0): 10}
    assert f"{topic.name} is not read: it is a selection" in caplog.text
    for said in (None, {"types": []}):
        with pytest.raises(ArchiveRefused, match="A selection needs a folder of its own"):
            export(topic, tmp_path, said=said)


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
@pytest.mark.usefixtures("small")
def test_a_damaged_or_missing_file_is_named(topic: Topic, tmp_path: Path) -> None:
    for begin, count in ((0, 10), (10, 5)):
        topic.write(begin, count)
        export(topic, tmp_path)
    topic.cut(0, 15)
    first, second = sorted((tmp_path / topic.name / "partition=0").iterdir())
    content = bytearray(first.read_bytes())
    content[200] ^= 0xFF
    first.write_bytes(bytes(content))
    assert [str(wrong).partition(" cannot")[0] for wrong in verify(tmp_path / topic.name)] == [str(first)]
    second.unlink()
    assert len(verify(tmp_path / topic.name)) == 2
    with pytest.raises(ArchiveDamaged, match=r"\.parquet cannot be used: .* Restore it from a copy"):
        topic.read(archived(topic.driver, tmp_path))
    (tmp_path / topic.name / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArchiveDamaged, match=r"manifest\.json cannot be used"):
        topic.read(archived(topic.driver, tmp_path))


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_analysts_find_the_attributes_of_events_in_columns(topic: Topic, tmp_path: Path) -> None:
    import duckdb

    topic.write(0, 4)
    topic.write_oddly()
    export(topic, tmp_path)
    files = tmp_path / topic.name / "**" / "*.parquet"
    rows = duckdb.sql(
        f"SELECT partition, type, id, subject FROM read_parquet('{files}', hive_partitioning = true) "
        "WHERE type IS NOT NULL ORDER BY 1, id"
    ).fetchall()
    assert rows[0] == (0, "sales.order.t0.v1", "e0", "0")
    assert rows[-1] == (1, "a.b.c.v1", "1", None)
    manifest = json.loads((tmp_path / topic.name / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["whole"], manifest["topic"], manifest["partitions"]) == (True, topic.name, 2)


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_no_two_exports_write_to_one_folder(topic: Topic, tmp_path: Path) -> None:
    from mesh_core.stack.locks import exclusive

    topic.write(0, 1)
    with (
        exclusive(tmp_path / topic.name / ".lock"),
        pytest.raises(ArchiveRefused, match="Another export writes"),
    ):
        export(topic, tmp_path)


def test_what_is_archived_can_be_sought_paused_and_asked_for_in_parts(topic: Topic, tmp_path: Path) -> None:
    one, two = topic.at(0), topic.at(1)
    topic.write(0, 30)
    topic.write(0, 5, partition=1)
    export(topic, tmp_path)
    topic.cut(0, 25)
    both = pickle.dumps(archived(topic.driver, tmp_path))  # as processes of a build get it
    with pickle.loads(both).consumer(None) as consumer:  # noqa: S301
        consumer.assign({one: 0, two: 0})
        consumer.pause([one])
        assert read(consumer, 5) == [(two, n, value(n)) for n in range(5)]
        assert consumer.paused() == {one}
        assert records(consumer.poll(10, 0.3)) == []
        assert consumer.positions() == Position({one: 0, two: 5})
        consumer.resume([one])
        assert consumer.paused() == set()
        assert [records(consumer.poll(7, 5)) for _ in range(2)] == [
            [(one, n, value(n)) for n in some] for some in (range(7), range(7, 14))
        ]
        consumer.seek(one, 23)  # in the archive, which ends at 30, while the topic begins at 25
        consumer.seek(two, 4)
        found = read(consumer, 8)
        assert sorted(found) == [*((one, n, value(n)) for n in range(23, 30)), (two, 4, value(4))]
        consumer.seek(one, 28)  # in the topic
        assert read(consumer, 2) == [(one, 28, value(28)), (one, 29, value(29))]
        with pytest.raises(LogError, match="not read by this consumer"):
            consumer.seek(TopicPartition("elsewhere", 0), 0)


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_topics_are_read_while_others_archives_are(topic: Topic, tmp_path: Path) -> None:
    topic.write(0, 2_000)
    topic.write(0, 1, partition=1)
    export(topic, tmp_path)
    topic.cut(0, 2_000)
    with archived(topic.driver, tmp_path).consumer(None) as consumer:
        consumer.assign({topic.at(0): 0, topic.at(1): 0})
        read: list[int] = []
        while 1 not in read:
            assert len(read) < 2_000, "the archive is read to its end first"
            read += [chunk.partition.partition for chunk in consumer.poll(1, 0.1)]
            time.sleep(0.001)


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_row_groups_are_bounded_and_those_before_an_offset_are_not_read(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "GROUP_RECORDS", 4)
    topic.write(0, 10)
    topic.write_oddly()
    export(topic, tmp_path)
    topic.cut(0, 10)
    (file,) = (tmp_path / topic.name / "partition=0").iterdir()
    assert parquet.ParquetFile(file).metadata.num_row_groups == 3
    content = bytearray(file.read_bytes())
    content[200] ^= 0xFF  # in the first group
    file.write_bytes(bytes(content))
    both = archived(topic.driver, tmp_path)
    assert [record[0] for record in topic.read(both, begin=5)[0]] == list(range(5, 10))
    with pytest.raises(ArchiveDamaged, match="cannot be used"):
        topic.read(both, begin=3)


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_damage_of_what_cannot_be_compressed_is_noticed(topic: Topic, tmp_path: Path) -> None:
    noise = os.urandom(1_000)
    with topic.driver.producer() as producer:
        producer.send(topic.name, b"k", noise, partition=0).result(10)
    export(topic, tmp_path)
    topic.cut(0, 1)
    (file,) = (tmp_path / topic.name / "partition=0").iterdir()
    content = bytearray(file.read_bytes())
    content[content.index(noise[500:520])] ^= 0x01
    file.write_bytes(bytes(content))
    with pytest.raises(ArchiveDamaged, match="CRC"):
        topic.read(archived(topic.driver, tmp_path))


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
@pytest.mark.usefixtures("small")
def test_no_file_is_removed_that_may_be_all_there_is(topic: Topic, tmp_path: Path) -> None:
    topic.write(0, 10)
    export(topic, tmp_path)
    manifest = tmp_path / topic.name / "manifest.json"
    before = manifest.read_text()
    topic.write(10, 10)
    export(topic, tmp_path)
    topic.cut(0, 20)
    files = sorted((tmp_path / topic.name / "partition=0").iterdir())
    manifest.write_text(before)  # a copy of before is put back
    with pytest.raises(ArchiveRefused, match="starts at 20, but the archive ends at 10"):
        export(topic, tmp_path)
    manifest.unlink()
    with pytest.raises(ArchiveDamaged, match="it is not there, though files of an archive are"):
        export(topic, tmp_path)
    assert sorted((tmp_path / topic.name / "partition=0").iterdir()) == files


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
@pytest.mark.usefixtures("small")
def test_a_selection_that_was_cut_short_is_not_taken_for_one_and_is_begun_anew(
    topic: Topic, tmp_path: Path
) -> None:
    topic.write(0, 25)

    def breaks(found: Mapping[str, str]) -> bool:
        if found["id"] == "e22":
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        export(topic, tmp_path, takes=breaks, said={"types": ["*"]})
    half = Manifest.read(tmp_path / topic.name)
    assert half is not None
    assert half.files == ()
    done = export(topic, tmp_path, takes=lambda found: True, said={"types": ["*"]})
    assert done.records == 25
    there = {path.name for path in (tmp_path / topic.name).rglob("*.parquet")}
    found = Manifest.read(tmp_path / topic.name)
    assert found is not None
    assert there == {Path(file.name).name for file in found.files}


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_a_topic_that_was_made_anew_or_has_lost_its_end_is_refused(
    topic: Topic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic.write(0, 5)
    export(topic, tmp_path)
    manifest = Manifest.read(tmp_path / topic.name)
    assert manifest is not None
    (file,) = manifest.files
    replace(manifest, files=(replace(file, next_offset=7),)).write(tmp_path / topic.name)
    with pytest.raises(ArchiveRefused, match="ends at 5, but the archive at 7: Kafka has lost records"):
        export(topic, tmp_path)
    manifest.write(tmp_path / topic.name)

    topic.admin.delete_topic(topic.name)
    wait_for(lambda: topic.name not in topic.admin.describe([topic.name]))
    topic.admin.create_topic(topic.name, 2)
    topic.write(0, 3)
    topic.cut(0, 2)
    with pytest.raises(ArchiveRefused, match="is of another topic of that name"):
        export(topic, tmp_path)
    with archived(topic.driver, tmp_path).consumer(None) as consumer:
        assert consumer.beginning_offsets([topic.at(0)]) == {topic.at(0): 2}
    assert f"{topic.name} is not read: it is of another topic of that name" in caplog.text


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="There is no folder"):
        archived(connect(KafkaConfig("127.0.0.1:1")), tmp_path / "nowhere")
