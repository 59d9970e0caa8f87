"""W1: the latest state of 20,000 contacts, from 200,000 updates in a topic of six partitions.

What is measured is an entity alone, without a view: the straight script writes one table too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import psycopg

from bench import contenders
from bench.filling import available_drivers, fill
from bench.floor.payloads import CONTACT_COLUMNS
from bench.harness import Contender, Figure, rate
from bench.history import CONTACT_TOPIC, contacts
from bench.peers import tools
from mesh_core.stack import StackAddresses

COLUMNS = "id, org_id, name, email, status, version"


@dataclass(frozen=True)
class ContactUpdates:
    """`events` updates of `contacts` contacts, as many of each, in a random but repeatable order."""

    name: ClassVar[str] = "w1"
    events: int = 200_000
    contacts: int = 20_000

    def fill(self, bootstrap: str) -> None:
        """See `Workload.fill`."""
        fill(bootstrap, [CONTACT_TOPIC], contacts(self.contacts, self.events).records())

    def write_truth(self, connection: psycopg.Connection) -> None:
        """See `Workload.write_truth`."""
        connection.execute(f"CREATE TABLE truth ({CONTACT_COLUMNS})")
        with connection.cursor().copy("COPY truth FROM STDIN") as copy:
            for state in contacts(self.contacts, self.events).final():
                copy.write_row(list(state.values()))

    def contenders(self) -> Sequence[Contender]:
        """See `Workload.contenders`."""
        return latest_state(self.events)

    def figures(self, contender: Contender, services: StackAddresses) -> list[Figure]:
        """See `Workload.figures`."""
        return rate(self, contender, services)


def latest_state(events: int) -> list[Contender]:
    """Everybody who keeps the latest state of contacts."""
    found = []
    for driver in available_drivers():
        found.append(contenders.script("straight script", "bench.floor.w1", driver, "TABLE contact"))
        found.append(contenders.incremental(driver, "bench.catalog", "erp_contact", COLUMNS))
    module = "bench.peers.handwritten"
    found.append(
        contenders.script(
            contenders.HAND_WRITTEN, module, available_drivers()[-1], "TABLE contact", "peer", "w1"
        )
    )
    if tools.installed():
        found += [tools.pathway("w1", COLUMNS, events), tools.bytewax(COLUMNS, events)]
    return found
