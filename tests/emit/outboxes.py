"""What tests of the outbox share: the events of a service, its database, and what of them is in the log."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from mesh_core.emit.relay import OutboxAddress, Relay
from mesh_core.log import Driver, KafkaConfig
from mesh_core.log.position import TopicPartition
from mesh_core.model import Col, Entity, Event, Key, View, add, column, upsert

SERVICE = "outboxed"
ACCOUNTS = 20


class Paid(Event, type="outboxed.account.paid.v1"):
    key_fields = ("account",)

    account: str
    amount: Decimal
    number: int = 0
    one: int = 1


class Account(Entity, service=SERVICE):
    account: Key[str]
    total: Col[Decimal] = column(precision=20, scale=2)
    payments: Col[int]
    folds = upsert(Paid, total=add(Paid.amount), payments=add(Paid.one))


account_overview = View(
    "account_overview", Account, account=Account.account, total=Account.total, payments=Account.payments
)


def in_the_log(driver: Driver, topic: str = Paid.topic) -> list[dict[str, Any]]:
    """All events of a topic, in the order of each partition."""
    with driver.admin() as admin:
        count = admin.describe([topic])[topic].partitions
    parts = [TopicPartition(topic, number) for number in range(count)]
    found: list[dict[str, Any]] = []
    with driver.consumer() as consumer:
        ends = consumer.end_offsets(parts)
        consumer.assign(dict.fromkeys(parts, 0))
        while any(consumer.positions().offsets.get(part, 0) < end for part, end in ends.items()):
            for chunk in consumer.poll(10_000, 5):
                for key, value in zip(chunk.keys, chunk.values, strict=True):
                    event = json.loads(value or b"", parse_float=Decimal)
                    assert event["subject"].encode() == key
                    found.append(event)
    return found


def relay(database_url: str, bootstrap: str, **options: Any) -> Relay:
    address = OutboxAddress(SERVICE, database_url)
    return Relay([address], KafkaConfig(bootstrap), retention_seconds=options.get("retention_seconds", 3600))


@contextmanager
def relaying(running: Relay) -> Iterator[None]:
    """The relay, in a thread."""
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield
    finally:
        running.stop()
        thread.join(20)
        assert not thread.is_alive()
