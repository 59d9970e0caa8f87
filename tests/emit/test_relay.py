from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from mesh_core.emit.outbox import add_event, outbox_sql
from mesh_core.emit.relay import OutboxAddress
from mesh_core.emit.relay import relay as relaying_module
from mesh_core.errors import UsageError
from mesh_core.log import Driver, KafkaConfig, SentTogether, connect
from mesh_core.log.producer import ClientProducer
from tests.emit.outboxes import Paid, in_the_log, relay, relaying

WORKFLOW = UUID("0198c0de-0000-7000-8000-000000000001")


@pytest.fixture
def driver(clean_kafka: str) -> Driver:
    driver = connect(KafkaConfig(clean_kafka))
    with driver.admin() as admin:
        admin.create_topic(Paid.topic, 2)
    return driver


@pytest.fixture
def outbox(database_url: str) -> str:
    """The URL of a database that has one."""
    with psycopg.connect(database_url) as connection:
        connection.execute(outbox_sql())
    return database_url


def pay(connection: psycopg.Connection[Any], account: str, amount: int, **options: Any) -> None:
    add_event(connection, Paid(account=account, amount=Decimal(amount)), **options)


def amounts(events: list[dict[str, Any]], account: str) -> list[int]:
    return [int(event["data"]["amount"]) for event in events if event["subject"] == account]


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_row_becomes_an_event(outbox: str, driver: Driver, clean_kafka: str) -> None:
    with psycopg.connect(outbox) as connection:
        pay(connection, "a", 1, workflow_id=WORKFLOW, correlation_id="c", tenant_id="t", expected_version=6)
        connection.execute(
            "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) "
            "VALUES ('account', 'é', 'outboxed.account.paid.v1', '{\"account\": \"é\", \"amount\": 14.000}')"
        )
    relay(outbox, clean_kafka).run(until_empty=True)
    first, second = sorted(in_the_log(driver), key=lambda event: int(event["sequence"]))
    with psycopg.connect(outbox) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM outbox ORDER BY position")]
        published = connection.execute("SELECT published FROM outbox_relay").fetchone()
    assert published == (second["sequence"],)
    assert {name: value for name, value in first.items() if name not in ("time", "sequence")} == {
        "specversion": "1.0",
        "id": str(ids[0]),
        "source": "/outboxed",
        "type": "outboxed.account.paid.v1",
        "subject": "a",
        "datacontenttype": "application/json",
        "workflowid": str(WORKFLOW),
        "correlationid": "c",
        "tenantid": "t",
        "aggregateversion": 7,
        "data": {"account": "a", "amount": 1, "number": 0, "one": 1},
    }
    assert second["id"] == str(ids[1])
    assert str(second["data"]["amount"]) == "14.000"


def test_a_row_that_commits_late_is_not_skipped(outbox: str, driver: Driver, clean_kafka: str) -> None:
    with relaying(relay(outbox, clean_kafka)), psycopg.connect(outbox) as late:
        pay(late, "a", 1)
        pay(late, "b", 1)
        for amount in range(2, 5):
            with psycopg.connect(outbox) as other:
                pay(other, "b", amount)
            eventually(lambda: len(in_the_log(driver)) == amount - 1)  # noqa: B023  # asked at once
        late.commit()
        eventually(lambda: len(in_the_log(driver)) == 5)
    found = in_the_log(driver)
    assert amounts(found, "a") == [1]
    assert amounts(found, "b") == [2, 3, 4, 1]  # as they committed
    sequences = [event["sequence"] for event in found if event["subject"] == "b"]
    assert sequences == sorted(set(sequences))


def test_a_commit_wakes_the_relay(outbox: str, driver: Driver, clean_kafka: str) -> None:
    with relaying(relay(outbox, clean_kafka)):
        waited = []
        for amount in range(1, 6):
            time.sleep(0.15)
            with psycopg.connect(outbox) as connection:
                pay(connection, "a", amount)
            begun = time.monotonic()
            with psycopg.connect(outbox, autocommit=True) as looking:
                eventually(
                    lambda: (
                        looking.execute(  # asked at once
                            "SELECT count(*) FROM outbox JOIN outbox_relay r ON outbox.sequence <= r.published"
                        ).fetchone()
                        == (amount,)  # noqa: B023
                    )
                )
            waited.append(time.monotonic() - begun)
    assert min(waited) < 0.5


def test_what_cannot_be_published_holds_its_aggregate_until_it_is_corrected(
    outbox: str, driver: Driver, clean_kafka: str
) -> None:
    bad = {
        "type": "UPDATE outbox SET type = 'crm.account.paid.v1'",
        "headers": "UPDATE outbox SET headers = '{\"Bad-Name\": 1}'",
        "nested": "UPDATE outbox SET headers = '{\"nested\": {}}'",
        "list": "UPDATE outbox SET headers = '[]'",
        "time": "UPDATE outbox SET occurred_at = 'infinity'",
        "large": "UPDATE outbox SET payload = jsonb_build_object('x', repeat('x', 1000001))",
    }
    with psycopg.connect(outbox) as connection:
        for account, damage in bad.items():
            pay(connection, account, 1)
            pay(connection, account, 2)
            connection.execute(f"{damage} WHERE aggregateid = %s AND payload->>'amount' = '1'", (account,))
        pay(connection, "good", 1)
    relay(outbox, clean_kafka).run(until_empty=True)
    with psycopg.connect(outbox) as connection:
        refused = dict(
            connection.execute("SELECT aggregateid, refused FROM outbox WHERE refused IS NOT NULL").fetchall()
        )
        assert refused.keys() == bad.keys()
        assert "not of outboxed" in refused["type"]
        assert "1,000,0" in refused["large"]
        pay(connection, "type", 3)
    relay(outbox, clean_kafka).run(until_empty=True)
    assert [event["subject"] for event in in_the_log(driver)] == ["good"]
    with psycopg.connect(outbox) as connection:
        connection.execute(
            "UPDATE outbox SET type = 'outboxed.account.paid.v1', refused = NULL WHERE aggregateid = 'type'"
        )
        connection.execute("DELETE FROM outbox WHERE aggregateid = 'large' AND refused IS NOT NULL")
    relay(outbox, clean_kafka).run(until_empty=True)
    found = in_the_log(driver)
    assert amounts(found, "type") == [1, 2, 3]
    assert amounts(found, "large") == [2]
    assert len(found) == 5


def test_rows_leave_the_table_after_the_retention(outbox: str, driver: Driver, clean_kafka: str) -> None:
    with psycopg.connect(outbox) as connection:
        pay(connection, "a", 1)
    relay(outbox, clean_kafka).run(until_empty=True)
    with psycopg.connect(outbox) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (1,)
        pay(connection, "a", 2)
    relay(outbox, clean_kafka, retention_seconds=0).run(until_empty=True)
    with psycopg.connect(outbox) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert amounts(in_the_log(driver), "a") == [1, 2]


def test_one_relay_works_and_the_other_stands_by(outbox: str, driver: Driver, clean_kafka: str) -> None:
    first, second = relay(outbox, clean_kafka), relay(outbox, clean_kafka)
    with relaying(second):
        with relaying(first):
            for amount in range(20):
                with psycopg.connect(outbox) as connection:
                    pay(connection, "a", amount)
            eventually(lambda: len(in_the_log(driver)) == 20)
        with psycopg.connect(outbox) as connection:
            pay(connection, "a", 20)
        eventually(lambda: len(in_the_log(driver)) == 21)
    assert amounts(in_the_log(driver), "a") == list(range(21))


def test_a_table_that_is_made_anew_goes_on_above(outbox: str, driver: Driver, clean_kafka: str) -> None:
    """Else readers would take its events for old ones."""
    for amount in (1, 2):
        with psycopg.connect(outbox) as connection:
            pay(connection, "a", amount)
        relay(outbox, clean_kafka).run(until_empty=True)
        with psycopg.connect(outbox) as connection:
            connection.execute("DROP TABLE outbox, outbox_relay; DROP FUNCTION outbox_wake")
            connection.execute(outbox_sql())
    first, second = (event["sequence"] for event in in_the_log(driver))
    assert second > first


def test_a_kafka_that_does_not_acknowledge_is_told(
    outbox: str, driver: Driver, clean_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying_module, "_SILENCE", 0.5)
    answers = threading.Event()
    send_all = ClientProducer.send_all

    def late(self: Any, records: Any) -> SentTogether:
        sent, done = send_all(self, records), Future[None]()
        threading.Thread(target=lambda: (sent.done.result(), answers.wait(), done.set_result(None))).start()
        return SentTogether(sent.results, done)

    monkeypatch.setattr(ClientProducer, "send_all", late)
    with psycopg.connect(outbox) as connection:
        pay(connection, "a", 1)
    running = relay(outbox, clean_kafka)
    with relaying(running):
        eventually(lambda: any("not acknowledged" in problem for problem in running.problems()))
        answers.set()
        eventually(lambda: running.problems() == [])
    assert amounts(in_the_log(driver), "a") == [1]


def test_a_missing_topic_is_waited_for(outbox: str, clean_kafka: str) -> None:
    with psycopg.connect(outbox) as connection:
        pay(connection, "a", 1)
    running = relay(outbox, clean_kafka)
    with relaying(running):
        eventually(lambda: any("does not exist" in problem for problem in running.problems()), 30)
        driver = connect(KafkaConfig(clean_kafka))
        with driver.admin() as admin:
            admin.create_topic(Paid.topic, 1)
        eventually(lambda: len(in_the_log(driver)) == 1, 30)


@pytest.mark.parametrize(
    "text",
    ["", "crm", "crm=mysql://x", "CRM=postgresql://x", "crm=postgresql://x#a.b.c", "crm=postgresql://x#A"],
)
def test_an_address_that_cannot_be_read_says_how_it_is_written(text: str) -> None:
    with pytest.raises(UsageError):
        OutboxAddress.parse(text)


def test_an_address() -> None:
    assert OutboxAddress.parse(" crm=postgresql://u:p@h/d?sslmode=require#s.out ") == OutboxAddress(
        "crm", "postgresql://u:p@h/d?sslmode=require", "s.out"
    )
    assert "secret" not in repr(OutboxAddress.parse("crm=postgresql://u:secret@h/d"))
