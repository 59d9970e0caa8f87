"""What the services of the benchmarks publish, repeatable, and the last state of each of their things.

Three kinds of things; each is updated as a whole, an equal number of times, in a random order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

ORGANISATIONS = 1_000
CONTACT_TOPIC = "erp.events"
ORGANISATION_TOPIC = "registry.events"
INVOICE_TOPIC = "billing.events"

State = dict[str, Any]


class Record(NamedTuple):
    """One event as it goes to its topic, not encoded yet."""

    topic: str
    key: str
    event: State


@dataclass(frozen=True)
class Things:
    """`events` updates of `count` things of one kind. `state(thing, revision)` is a thing after an update, from 1."""

    topic: str
    kind: str
    count: int
    events: int
    state: Callable[[int, int], State]

    def records(self) -> Iterator[Record]:
        """All updates in order."""
        order = [number % self.count for number in range(self.events)]
        random.Random(7).shuffle(order)
        revisions = [0] * self.count
        began = datetime(2026, 1, 1, tzinfo=UTC)
        for number, thing in enumerate(order):
            revisions[thing] += 1
            time = began + timedelta(seconds=number)
            yield self.record(number, thing, revisions[thing], time)

    def record(self, number: int, thing: int, revision: int, time: datetime) -> Record:
        """One update; `number` tells its id from all others'."""
        event = {
            "specversion": "1.0",
            "id": f"{self.kind[0]}{number:07d}-6f1c-4b7e-9d55-3c0a{number:08x}",
            "source": f"/{self.topic.split('.')[0]}/{self.kind}s",
            "type": f"{self.topic.split('.')[0]}.{self.kind}.updated.v1",
            "time": time,
            "subject": str(thing),
            "datacontenttype": "application/json",
            "data": self.state(thing, revision),
        }
        return Record(self.topic, str(thing), event)

    def last(self, thing: int) -> State:
        """The thing after all its updates, of which it must have one."""
        return self.state(thing, self.events // self.count + (thing < self.events % self.count))

    def final(self) -> Iterator[State]:
        """All of them, by number."""
        return (self.last(thing) for thing in range(self.count))


def contact(number: int, revision: int, organisations: int = ORGANISATIONS) -> State:
    """A contact, who belongs to another organisation after every fifth update."""
    return {
        "id": number,
        "org_id": (number * 7 + revision // 5) % organisations,
        "name": f"Contact {number} revision {revision}",
        "email": f"contact{number}.{revision}@example.com",
        "status": ("active", "lead", "dormant")[(number + revision) % 3],
        "version": revision,
    }


def contacts(count: int, events: int, organisations: int = ORGANISATIONS) -> Things:
    """The contacts of the enterprise system."""
    return Things(CONTACT_TOPIC, "contact", count, events, lambda n, r: contact(n, r, organisations))


def _organisation(number: int, revision: int) -> State:
    name = f"Organisation {number} revision {revision}"
    return {"id": number, "name": name, "country": "DE", "version": revision}


@dataclass(frozen=True)
class ThreeServices:
    """Contacts of organisations, with invoices. An invoice that is updated again may move to another contact."""

    contact_count: int
    contact_events: int
    organisation_count: int
    organisation_events: int
    invoice_count: int
    invoice_events: int

    @cached_property
    def contacts(self) -> Things:
        """Who is invoiced."""
        return contacts(self.contact_count, self.contact_events, self.organisation_count)

    @cached_property
    def organisations(self) -> Things:
        """Where they belong."""
        events = self.organisation_events
        return Things(ORGANISATION_TOPIC, "organisation", self.organisation_count, events, _organisation)

    @cached_property
    def invoices(self) -> Things:
        """What they owe."""
        return Things(INVOICE_TOPIC, "invoice", self.invoice_count, self.invoice_events, self._invoice)

    @property
    def events(self) -> int:
        """How many there are in all."""
        return self.contact_events + self.organisation_events + self.invoice_events

    def records(self) -> Iterator[Record]:
        """All events; the order matters within a topic only."""
        for things in (self.organisations, self.contacts, self.invoices):
            yield from things.records()

    def joined(self) -> Iterator[State]:
        """What must come of it: contacts with the name of their organisation, and count and sum of invoices."""
        names = {state["id"]: state["name"] for state in self.organisations.final()}
        counts, sums = [0] * self.contact_count, [0] * self.contact_count
        for invoice in self.invoices.final():
            counts[invoice["contact_id"]] += 1
            sums[invoice["contact_id"]] += invoice["amount"]
        for state in self.contacts.final():
            number = state["id"]
            yield {
                **state,
                "org_name": names[state["org_id"]],
                "invoice_count": counts[number],
                "invoice_sum": sums[number],
            }

    def _invoice(self, number: int, revision: int) -> State:
        return {
            "id": number,
            # Scattered, as real ones are: the multiplier is Knuth's, 2**32 divided by the golden ratio.
            "contact_id": (number * 2_654_435_761 + revision * 40_503) % 2**32 % self.contact_count,
            "amount": (number * 37 + revision * 11) % 100_000,
            "status": "issued",
            "number": f"INV-{number:08d}",
            "version": revision,
        }


def fold(records: Iterator[Record]) -> Mapping[str, Mapping[int, State]]:
    """The last state by topic and thing, found by going through it all."""
    last: dict[str, dict[int, State]] = {}
    for topic, _, event in records:
        last.setdefault(topic, {})[event["data"]["id"]] = event["data"]
    return last
