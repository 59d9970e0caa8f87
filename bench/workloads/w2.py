"""W2: contacts, organisations and invoices of three services, joined into one row a contact.

200,000 updates of 20,000 contacts, 2,000 of 1,000 organisations, 200,000 invoices keyed by invoice.
W4 is the same at 1, 4 and 16 times the size, of everything, with memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import psycopg

from bench import contenders
from bench.filling import available_drivers, fill
from bench.floor import joined
from bench.floor.payloads import CONTACT_COLUMNS
from bench.harness import Contender, Figure, measure, rate
from bench.history import CONTACT_TOPIC, INVOICE_TOPIC, ORGANISATION_TOPIC, ThreeServices
from bench.peers import tools
from mesh_core.stack import StackAddresses

COLUMNS = "id, org_id, name, email, status, version, org_name, invoice_count, invoice_sum"
CATALOG = "bench.joined_catalog"
_MEGABYTE = 1_000_000


def three_services(scale: int = 1) -> ThreeServices:
    """What W2 is about, `scale` times as large."""
    return ThreeServices(
        contact_count=20_000 * scale,
        contact_events=200_000 * scale,
        organisation_count=1_000 * scale,
        organisation_events=2_000 * scale,
        invoice_count=200_000 * scale,
        invoice_events=200_000 * scale,
    )


@dataclass(frozen=True)
class Joined:
    """A history of three services to join."""

    services: ThreeServices
    name: str = "w2"

    @property
    def events(self) -> int:
        """See `Workload.events`."""
        return self.services.events

    def fill(self, bootstrap: str) -> None:
        """See `Workload.fill`."""
        fill(bootstrap, [ORGANISATION_TOPIC, CONTACT_TOPIC, INVOICE_TOPIC], self.services.records())

    def write_truth(self, connection: psycopg.Connection) -> None:
        """See `Workload.write_truth`."""
        connection.execute(
            f"CREATE TABLE truth ({CONTACT_COLUMNS}, org_name text, invoice_count bigint, invoice_sum bigint)"
        )
        with connection.cursor().copy("COPY truth FROM STDIN") as copy:
            for row in self._rows:
                copy.write_row(row)

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        found = []
        for driver in available_drivers():
            found += incremental_and_bulk(driver)
        best = available_drivers()[-1]
        two = "straight script in two processes, bulk"
        found.append(contenders.script(two, "bench.floor.w2_bulk", best, joined.ROWS, "floor", "two"))
        module = "bench.peers.handwritten"
        found.append(contenders.script(contenders.HAND_WRITTEN, module, best, joined.ROWS, "peer", "w2"))
        if tools.installed():
            found.append(tools.pathway("w2", COLUMNS, self.events))
        return found

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`."""
        return rate(self, contender, services)

    @cached_property
    def _rows(self) -> list[tuple[object, ...]]:
        return [tuple(row.values()) for row in self.services.joined()]


@dataclass(frozen=True)
class Grown(Joined):
    """The same for W4: larger, without peers, and memory is measured too."""

    aspect: str = ""

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        return incremental_and_bulk(available_drivers()[-1])

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`."""
        done = measure(self, contender, services)
        return [
            Figure(self.aspect, self.events / done.seconds, "events/s"),
            Figure(f"{self.aspect} memory", done.peak_memory / _MEGABYTE, "MB"),
        ]


def incremental_and_bulk(driver: str) -> list[Contender]:
    """Floor and ours, both ways."""
    return [
        contenders.script("straight script", "bench.floor.w2", driver, joined.ROWS),
        contenders.incremental(driver, CATALOG, "contact_overview", COLUMNS),
        contenders.script("straight script, bulk", "bench.floor.w2_bulk", driver, joined.ROWS),
        contenders.bulk(driver, CATALOG, "contact_overview", COLUMNS),
    ]
