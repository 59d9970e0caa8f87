"""An archive has exactly what its topic had, and reads with what the topic still has as one log, by both clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer as TransactionalProducer
from confluent_kafka import TopicPartition as ForeignPartition
from confluent_kafka.admin import AdminClient

from mesh_core.log import Admin, Driver, KafkaConfig, Position, TopicPartition, connect
from mesh_core.log.archive import ArchiveDamaged, ArchiveRefused, Selection, archived, export_topic, verify
from mesh_core.log.archive import export as exporting
from mesh_core.log.archive.manifest import Manifest
from mesh_core.log.cloudevents import encode_structured
from mesh_core.log.interface import Headers
from tests.support.services import Services

EPOCH = 1_700_000_000_000
Record = tuple[int, int, bytes | None, bytes | None, Headers]


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
                event = {
                    "specversion": "1.0", "id": f"e{n}", "source": "/s", "type": f"sales.order.t{n % 2}.v1",
                    "subject": str(n), "time": "2026-01-01T00:00:00Z", "data": {"n": n},
                }  # fmt: skip
                producer.send(
                    self.name,
                    str(n).encode(),
                    encode_structured(event),
                    timestamp_ms=EPOCH + n,
                    headers=(("content-type", b"application/cloudevents+json"), ("x", b"\x00\xff")),
                    partition=partition,
                )

    def write_oddly(self) -> None:
        """No key, no value, no headers, a large value, binary mode; and a transaction that was aborted, one that was not."""
        with self.driver.producer() as producer:
            for key, value, headers in (
                (None, b"x", ()),
                (b"k", None, ()),
                (b"big", b"y" * 500_000, ()),
                (b"k", b'{"a": 1}', (("ce_specversion", b"1.0"), ("ce_type", b"a.b.c.v1"), ("ce_id", b"1"))),
                (b"\xff", b"\xff", (("twice", b"1"), ("twice", b"2"))),
            ):
                producer.send(self.name, key, value, headers=headers, partition=1)
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


def test_times_are_found_in_what_is_archived(topic: Topic, tmp_path: Path) -> None:
    topic.write(0, 20)
    export(topic, tmp_path)
    with topic.driver.consumer(None) as consumer:
        before = {ms: consumer.offsets_for_time([topic.at(0)], EPOCH + ms) for ms in (-5, 0, 7, 19, 30)}
    topic.cut(0, 15)
    with archived(topic.driver, tmp_path).consumer(None) as consumer:
        assert {ms: consumer.offsets_for_time([topic.at(0)], EPOCH + ms) for ms in before} == before


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_what_would_leave_a_gap_or_be_of_another_topic_is_refused(topic: Topic, tmp_path: Path) -> None:
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
    manifest = Manifest.read(tmp_path / topic.name)
    assert manifest is not None
    other = Manifest(manifest.topic, "another-id", manifest.partitions, None, manifest.files)
    other.write(tmp_path / topic.name)
    with pytest.raises(ArchiveRefused, match="is of another topic of that name"):
        export(topic, tmp_path)


@pytest.mark.parametrize("driver", ["confluent-kafka"], indirect=True)
def test_a_selection_stands_for_nothing_and_is_not_gone_on_with(topic: Topic, tmp_path: Path) -> None:
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


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="There is no folder"):
        archived(connect(KafkaConfig("127.0.0.1:1")), tmp_path / "nowhere")
