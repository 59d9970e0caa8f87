"""Writers whose transactions commit late and out of order, a relay that is killed, a broker that goes away."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from mesh_core import stack
from mesh_core.emit.outbox import add_event, outbox_sql
from mesh_core.model import Catalog
from mesh_core.settings import ROOT, Settings
from tests.conftest import OwnStack
from tests.emit.outboxes import ACCOUNTS, SERVICE, Account, Paid, account_overview, in_the_log, relay
from tests.support.mesh import Mesh, wait_for
from tests.support.services import environment_of, fresh_database

log = logging.getLogger(__name__)
NUMBERED = 10
"""Accounts whose row a writer locks before it writes of them, so that there is one order."""


@dataclass
class Writer(threading.Thread):
    """Commits payments in transactions that take their time, or rolls them back; notes what it committed."""

    url: str
    seed: int
    until: float
    committed: dict[UUID, tuple[str, Decimal]] = field(default_factory=dict)
    rolled_back: set[UUID] = field(default_factory=set)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return self.seed

    def run(self) -> None:
        try:
            self._write(random.Random(self.seed))
        except BaseException as error:
            self.failure = error

    def _write(self, choose: random.Random) -> None:
        with psycopg.connect(self.url) as connection:
            while time.monotonic() < self.until:
                accounts = sorted(choose.sample(range(ACCOUNTS), choose.randint(1, 3)))
                events: dict[UUID, tuple[str, Decimal]] = {}
                for account in accounts:
                    number = 0
                    if account < NUMBERED:
                        found = connection.execute(
                            "UPDATE numbers SET number = number + 1 WHERE account = %s RETURNING number",
                            (account,),
                        ).fetchone()
                        assert found is not None
                        number = found[0]
                    paid = Paid(
                        account=str(account), amount=Decimal(choose.randrange(1, 1000)) / 100, number=number
                    )
                    events[add_event(connection, paid)] = (paid.account, paid.amount)
                    time.sleep(choose.choice([0, 0, 0.001, 0.02]))
                if choose.random() < 0.02:
                    time.sleep(1.5)
                if choose.random() < 0.2:
                    connection.rollback()
                    self.rolled_back |= events.keys()
                else:
                    connection.commit()
                    self.committed |= events


def relays_begun(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT fence FROM outbox_relay").fetchone()
    return row[0] if row else 0


@pytest.mark.parametrize(
    ("seconds", "restarts"),
    [(4, 1), pytest.param(120, 2, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_what_is_committed_arrives_in_order_and_nothing_else(
    own_stack: OwnStack, seconds: float, restarts: int
) -> None:
    postgres, kafka = own_stack.addresses.database_url, own_stack.addresses.kafka_bootstrap_servers
    with fresh_database(postgres) as own_url, fresh_database(postgres) as mesh_url:
        settings = Settings(
            database_url=SecretStr(mesh_url), kafka_bootstrap_servers=kafka, projector_metrics_port=0
        )
        mesh = Mesh(settings, Catalog.of(entities=[Account], views=[account_overview]), partitions=3)
        mesh.deploy()
        with psycopg.connect(own_url) as connection:
            connection.execute(outbox_sql())
            connection.execute("CREATE TABLE numbers (account int PRIMARY KEY, number int)")
            connection.execute(
                "INSERT INTO numbers SELECT n, 0 FROM generate_series(0, %s) n", (NUMBERED - 1,)
            )
        begun = time.monotonic()
        writers = [Writer(own_url, seed, begun + seconds) for seed in range(4)]
        for writer in writers:
            writer.start()
        due = [begun + seconds * (n + 1) / (restarts + 1) for n in range(restarts)]
        kills = 0
        while any(writer.is_alive() for writer in writers):
            process = subprocess.Popen(
                [sys.executable, "-m", "mesh_core.cli", "relay", "--outbox", f"{SERVICE}={own_url}"],
                cwd=ROOT,
                env=environment_of(settings) | {"MESH_RELAY_METRICS_PORT": "0"},
                stderr=subprocess.DEVNULL,
            )
            wait_for(lambda: relays_begun(own_url) > kills, 60, "beginning")  # noqa: B023  # asked at once
            time.sleep(random.random() if seconds < 10 else 1)
            if due and time.monotonic() > due[0]:
                due.pop(0)
                stack.kafka.kill(own_stack.directory)
                time.sleep(1)
                stack.start(own_stack.directory)
            process.kill()
            process.wait()
            kills += 1
        assert kills >= min(3, seconds / 10)
        for writer in writers:
            writer.join()
            assert writer.failure is None, writer.failure
        by_killed = len(in_the_log(mesh.driver))
        assert by_killed
        relay(own_url, kafka).run(until_empty=True)

        committed = {id_: told for writer in writers for id_, told in writer.committed.items()}
        events = in_the_log(mesh.driver)
        assert {UUID(event["id"]) for event in events} == committed.keys()
        assert not committed.keys() & {id_ for writer in writers for id_ in writer.rolled_back}
        first: dict[str, list[dict[str, object]]] = defaultdict(list)
        seen: set[str] = set()
        for event in events:
            if event["id"] not in seen:
                seen.add(event["id"])
                first[event["subject"]].append(event)
        for account, of in first.items():
            sequences = [event["sequence"] for event in of]
            assert sequences == sorted(set(sequences)), account  # type: ignore[type-var]
            if int(account) < NUMBERED:
                assert [event["data"]["number"] for event in of] == list(  # type: ignore[index]
                    range(1, len(of) + 1)
                ), account

        mesh.project()
        mesh.assert_sound()
        totals: dict[str, Decimal] = defaultdict(Decimal)
        for account, amount in committed.values():
            totals[account] += amount
        counts = Counter(account for account, _ in committed.values())
        assert {
            account: (row["total"], row["payments"]) for account, row in mesh.rows("account_overview").items()
        } == {account: (totals[account], counts[account]) for account in totals}
        mesh.close()
        again = len(events) - len(committed)
        log.info(
            "%d events, %d by relays that were killed, %d again, %d kills",
            len(committed),
            by_killed,
            again,
            kills,
        )
