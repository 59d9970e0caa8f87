from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from mesh_core.emit import Publisher
from mesh_core.emit.outbox import add_event, outbox_sql
from mesh_core.emit.subscriber import EventRefused, Received, Subscriber, SubscriberStopped, session
from mesh_core.errors import UsageError
from mesh_core.log import Driver, KafkaConfig, LogUnavailable, connect
from mesh_core.model import Event
from mesh_core.settings import ROOT
from tests.emit.outboxes import Paid
from tests.support.mesh import wait_for

TOPIC = Paid.topic


@pytest.fixture
def driver(clean_kafka: str) -> Driver:
    driver = connect(KafkaConfig(clean_kafka))
    with driver.admin() as admin:
        admin.create_topic(TOPIC, 3)
    return driver


def keep(received: Received[Paid], connection: psycopg.Connection[Any]) -> None:
    """The handler of these tests: sums what each account has paid."""
    if received.event.amount == 13:
        raise EventRefused("Thirteen is not taken.")
    connection.execute(
        "INSERT INTO paid AS p VALUES (%s, %s, 1) ON CONFLICT (account) DO UPDATE "
        "SET amount = p.amount + excluded.amount, events = p.events + 1",
        (received.event.account, received.event.amount),
    )


def subscriber(database_url: str, driver: Driver) -> Subscriber:
    made = Subscriber("billing", database_url, driver)
    made.on(Paid)(keep)
    return made


@pytest.fixture
def billing(database_url: str, driver: Driver) -> Subscriber:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "CREATE TABLE paid (account text PRIMARY KEY, amount numeric(12, 2) CHECK (amount < 1000), events int)"
        )
    made = subscriber(database_url, driver)
    made.create_tables()
    made.create_tables()
    return made


def pay(driver: Driver, *amounts: object, account: str = "a", first: int | None = None) -> None:
    with Publisher(driver, "/test") as publisher:
        for n, amount in enumerate(amounts):
            publisher.publish(
                Paid(account=account, amount=Decimal(str(amount))),
                sequence=None if first is None else first + n,
            )


def paid(database_url: str) -> dict[str, tuple[Decimal, int]]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT account, amount, events FROM paid").fetchall()
    return {account: (amount, events) for account, amount, events in rows}


@contextmanager
def running(made: Subscriber) -> Iterator[None]:
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield
    finally:
        made.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_each_event_has_its_effect_once(billing: Subscriber, database_url: str, driver: Driver) -> None:
    pay(driver, 1, 2, 3)
    billing.run(until_end=True)
    pay(driver, 4, account="b")
    billing.run(until_end=True)
    billing.run(until_end=True)
    assert paid(database_url) == {"a": (6, 3), "b": (4, 1)}


def test_what_comes_again_under_a_sequence_is_left_out(
    billing: Subscriber, database_url: str, driver: Driver
) -> None:
    pay(driver, 1, 2, 4, first=1)
    pay(driver, 2, 4, 8, first=2)
    billing.run(until_end=True)
    pay(driver, 8, 16, first=4)
    billing.run(until_end=True)
    assert paid(database_url) == {"a": (31, 5)}


def test_what_is_refused_parks_what_follows_of_its_key(
    billing: Subscriber, database_url: str, driver: Driver
) -> None:
    pay(driver, 1, 13, 2, 4)  # refused by the handler
    pay(driver, 1, 5000, 2, account="b")  # by a constraint
    pay(driver, 1, account="c")
    with driver.producer() as producer:
        record = {
            "specversion": "1.0", "id": "1", "source": "/x", "type": Paid.type,
            "time": "2026-01-01T00:00:00Z", "data": {"account": "c"},
        }  # fmt: skip
        producer.send(TOPIC, b"c", json.dumps(record).encode(), headers=(("h", b"\xff"),)).result(10)
        producer.send(TOPIC, b"d", b"no JSON").result(10)
        strange = json.dumps(record | {"type": "outboxed.account.closed.v1"}).encode()
        producer.send(TOPIC, b"e", strange).result(10)
    billing.run(until_end=True)
    assert paid(database_url) == {"a": (1, 1), "b": (1, 1), "c": (1, 1)}
    letters = billing.letters()
    assert sorted((letter.key, letter.reason) for letter in letters if letter.reason) == [
        (b"a", "refused_by_handler"),
        (b"b", "refused_by_postgres"),
        (b"c", "missing_field"),
        (b"d", "not_json"),
    ]
    assert len(letters) == 7
    broken = next(letter for letter in letters if letter.key == b"c")
    assert broken.headers == (("h", b"\xff"),)
    assert broken.value == json.dumps(record).encode()

    first = next(letter for letter in letters if letter.key == b"a")
    parked = next(letter for letter in letters if letter.key == b"a" and letter.reason is None)
    with pytest.raises(UsageError, match="parked"):
        billing.discard(parked)
    assert not billing.retry(first)
    assert billing.discard(first)
    assert not billing.discard(first)
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE paid DROP CONSTRAINT paid_amount_check")
    assert billing.retry(next(letter for letter in letters if letter.key == b"b"))
    assert paid(database_url) == {"a": (7, 3), "b": (5003, 3), "c": (1, 1)}
    pay(driver, 1)
    billing.run(until_end=True)
    assert paid(database_url)["a"] == (8, 4)


def test_a_handler_that_fails_otherwise_ends_it_with_nothing_done(
    database_url: str, driver: Driver, billing: Subscriber
) -> None:
    failing = Subscriber("failing", database_url, driver)

    @failing.on(Paid)
    def handle(received: Received[Paid], connection: psycopg.Connection[Any]) -> None:
        keep(received, connection)
        if received.event.amount == 2:
            raise ZeroDivisionError

    pay(driver, 1, 2)
    with pytest.raises(ZeroDivisionError):
        failing.run()
    assert paid(database_url) == {}
    with pytest.raises(UsageError, match="has a handler already"):
        failing.on(Paid)(handle)


def test_what_a_handler_publishes_is_caused_by_the_event(
    database_url: str, driver: Driver, billing: Subscriber
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(outbox_sql())
    passing = Subscriber("passing", database_url, driver)

    @passing.on(Paid)
    def handle(received: Received[Paid], connection: psycopg.Connection[Any]) -> None:
        add_event(connection, received.event)

    with Publisher(driver, "/test") as publisher:
        publisher.publish(Paid(account="a", amount=Decimal(1)), id="cause", correlation_id="c", tenant_id="t")
    passing.run(until_end=True)
    with psycopg.connect(database_url) as connection:
        (headers,) = connection.execute("SELECT headers FROM outbox").fetchone() or ()
    assert headers == {"correlationid": "c", "causationid": "cause", "tenantid": "t"}


def test_it_begins_once_kafka_and_postgres_are_there(
    billing: Subscriber, database_url: str, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(driver, 1, 2)
    away = [LogUnavailable(), LogUnavailable(), psycopg.OperationalError("it starts up")]
    consumer, connect_ = type(driver).consumer, session.connect

    def consumer_(self: Driver, *given: Any) -> Any:
        if away and isinstance(away[0], LogUnavailable):
            raise away.pop(0)
        return consumer(self, *given)

    def connected(*given: Any) -> Any:
        if away:
            raise away.pop(0)
        return connect_(*given)

    monkeypatch.setattr(type(driver), "consumer", consumer_)
    monkeypatch.setattr(session, "connect", connected)
    with running(billing):
        wait_for(lambda: paid(database_url) == {"a": (3, 2)})
    assert away == []


def test_what_a_handler_raises_ends_it_even_if_it_says_that_something_is_away(
    billing: Subscriber, driver: Driver
) -> None:
    class Told(Paid, type="outboxed.account.told.v1"):
        pass

    @billing.on(Told)
    def handle(received: Received[Told], connection: psycopg.Connection[Any]) -> None:
        raise LogUnavailable

    with Publisher(driver, "/test") as publisher:
        publisher.publish(Told(account="a", amount=Decimal(1)), key="a")
    with pytest.raises(LogUnavailable):
        billing.run(until_end=True)


def test_a_topic_that_is_not_there_is_told(
    billing: Subscriber, driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nope(Event, type="nope.item.added.v1"):
        key_fields = ("account",)
        account: str

    billing.on(Nope)(lambda received, connection: None)
    pay(driver, 1)
    billing.run(until_end=True)
    assert "nope.events" in capsys.readouterr().out


def test_a_topic_that_was_made_anew_stops_it(billing: Subscriber, driver: Driver) -> None:
    pay(driver, 1)
    billing.run(until_end=True)
    with driver.admin() as admin:
        admin.delete_topic(TOPIC)
        admin.create_topic(TOPIC, 3)
    pay(driver, 1, 2)
    for until_end in (True, False):
        with pytest.raises(SubscriberStopped, match="made anew"):
            billing.run(until_end=until_end)


@pytest.mark.parametrize(
    ("events", "kills"),
    [
        (800, 2),
        pytest.param(100_000, 40, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_killed_and_rebalanced_it_gives_each_event_its_effect_once(
    billing: Subscriber, database_url: str, driver: Driver, clean_kafka: str, events: int, kills: int
) -> None:
    """Two processes share the partitions; one after the other is killed in the midst of its work."""
    accounts = 200  # each of which may pay up to a thousand

    def publish() -> None:
        with Publisher(driver, "/test") as publisher:
            for n in range(events):
                publisher.publish(Paid(account=str(n % accounts), amount=Decimal(1)))
                if n % 100 == 0:
                    time.sleep(0.02)

    def spawn() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.emit.test_subscriber", database_url, clean_kafka], cwd=ROOT
        )

    publishing = threading.Thread(target=publish)
    publishing.start()
    processes = [spawn(), spawn()]
    try:
        for n in range(kills):
            handled = sum(events for _, events in paid(database_url).values())
            wait_for(lambda: sum(e for _, e in paid(database_url).values()) > handled, 60)  # noqa: B023
            os.kill(processes[n % 2].pid, signal.SIGKILL)
            processes[n % 2].wait()
            processes[n % 2] = spawn()
        publishing.join()
        wait_for(lambda: sum(e for _, e in paid(database_url).values()) >= events, 120)
    finally:
        publishing.join()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    assert paid(database_url) == {str(n): (events // accounts,) * 2 for n in range(accounts)}
    assert billing.letters() == []


if __name__ == "__main__":
    running_here = subscriber(sys.argv[1], connect(KafkaConfig(sys.argv[2])))
    signal.signal(signal.SIGTERM, lambda number, frame: running_here.stop())
    running_here.run()
