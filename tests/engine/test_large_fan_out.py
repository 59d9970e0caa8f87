"""A rename that touches a million rows, while parcels, their scans and other views change."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from mesh_core.engine.checking import check
from mesh_core.model import Catalog, Col, Entity, Event, Key, View, many, one, upsert
from mesh_core.settings import Settings
from mesh_core.store.versions import live_plan
from tests.support.mesh import Mesh, wait_for

ROOTS = 1_000_000
LONGEST_SECONDS = 5.0
"""Of one transaction, on a busy machine; recomputing all at once takes many times as long."""
FRESH_SECONDS = 5.0


class SenderNamed(Event, type="mail.sender.named.v1"):
    sender_id: int
    name: str


class ParcelSent(Event, type="mail.parcel.sent.v1"):
    parcel_id: int
    sender_id: int


class ParcelScanned(Event, type="mail.scan.made.v1"):
    scan_id: int
    parcel_id: int


class ShopNamed(Event, type="mall.shop.named.v1"):
    shop_id: int
    name: str


class Sender(Entity, service="mail"):
    sender_id: Key[int]
    name: Col[str]
    folds = (upsert(SenderNamed),)


class Parcel(Entity, service="mail"):
    parcel_id: Key[int]
    sender_id: Col[int]
    folds = (upsert(ParcelSent),)


class Scan(Entity, service="mail"):
    scan_id: Key[int]
    parcel_id: Col[int]
    folds = (upsert(ParcelScanned),)


class Shop(Entity, service="mall"):
    shop_id: Key[int]
    name: Col[str]
    folds = (upsert(ShopNamed),)


sender = one(Parcel.sender_id, Sender.sender_id)
scans = many(Scan.parcel_id, Parcel.parcel_id)
CARDS = Catalog.of(
    entities=[Sender, Parcel, Scan, Shop],
    views=[
        View(
            "parcel_card",
            Parcel,
            parcel_id=Parcel.parcel_id,
            sender_name=sender[Sender.name],
            scan_count=scans.count(),
        ),
        View("shop_card", Shop, shop_id=Shop.shop_id, name=Shop.name),
    ],
)
FILL = """
INSERT INTO data.mail_sender__1 VALUES (1, 'Ada', 0), (2, 'Bob', 0);
INSERT INTO data.mail_parcel__1 SELECT n, 1, 0 FROM generate_series(1, {roots}) n;
INSERT INTO data.mail_scan__1 SELECT n, n, 0 FROM generate_series(1, {roots}, 5) n;
ANALYZE;
"""


class Watch:
    """The longest transaction of any projector, seen every few milliseconds."""

    def __init__(self) -> None:
        self.longest, self.what = 0.0, ""

    @contextmanager
    def over(self, mesh: Mesh) -> Iterator[None]:
        stopping = threading.Event()

        def look() -> None:
            with psycopg.connect(mesh.database_url, autocommit=True) as connection:
                while not stopping.wait(0.02):
                    for seconds, query in connection.execute(
                        "SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8, query FROM pg_stat_activity "
                        "WHERE application_name = 'mesh projector' AND datname = current_database() AND xact_start IS NOT NULL"
                    ).fetchall():
                        if seconds > self.longest:
                            self.longest, self.what = seconds, query

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(30)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_rename_that_touches_a_million_rows(settings: Settings) -> None:
    mesh = Mesh(settings, CARDS, partitions=1)
    mesh.deploy()
    mesh.execute(FILL.format(roots=ROOTS))
    with psycopg.connect(mesh.database_url, autocommit=True) as connection, connection.cursor() as cursor:
        for view in live_plan(connection).views:
            view.fill(cursor)
        connection.execute("ANALYZE")
    watch, waits = Watch(), list[float]()
    turn, moved = 0, set[int]()
    with watch.over(mesh), mesh.projecting():
        begun = time.monotonic()
        mesh.publish(SenderNamed(sender_id=1, name="Anna"), 1)
        mesh.publisher.flush()
        wait_for(lambda: bool(mesh.fan_outs()), what="queueing")
        queued_after = time.monotonic() - begun
        while mesh.fan_outs():
            turn += 1
            number = turn * 7919 % ROOTS + 1
            mesh.publish(ParcelSent(parcel_id=number, sender_id=2), number)
            moved.add(number)
            mesh.publish(ParcelSent(parcel_id=ROOTS + turn, sender_id=1), ROOTS + turn)
            mesh.publish(ParcelScanned(scan_id=2 * ROOTS + turn, parcel_id=number + 1), 2 * ROOTS + turn)
            if turn == 50:
                mesh.publish(SenderNamed(sender_id=1, name="Aino"), 1)
            sent = time.monotonic()
            mesh.publish(ShopNamed(shop_id=1, name=f"at {turn}"), 1)
            mesh.publisher.flush()
            wait_for(
                lambda: mesh.rows("shop_card").get(1, {}).get("name") == f"at {turn}",  # noqa: B023
                30,
                "a fresh shop",
            )
            waits.append(time.monotonic() - sent)
            if turn in (20, 100):
                assert all(result.clean for result in check(mesh.database_url))
        drained_after = time.monotonic() - begun
        mesh.wait_caught_up()
    waits.sort()
    print(  # noqa: T201  # the figures of a soak: pytest -s
        f"\nqueued after {queued_after:.2f} s, drained after {drained_after:.1f} s; longest transaction "
        f"{watch.longest:.2f} s ({watch.what[:60]!r}); another view fresh within {waits[len(waits) // 2]:.2f} s (median), "
        f"{waits[int(len(waits) * 0.99)]:.2f} s (99 %), {waits[-1]:.2f} s (longest) over {len(waits)} changes"
    )
    names = dict(mesh.query("SELECT sender_name, count(*) FROM read.parcel_card GROUP BY 1"))
    assert turn > 50
    assert names == {"Aino": ROOTS + turn - len(moved), "Bob": len(moved)}
    mesh.assert_sound()
    assert watch.longest < LONGEST_SECONDS, watch.what
    assert waits[-1] < FRESH_SECONDS
    mesh.close()
