"""What the tables of straight scripts keep of an event's payload, and how it is decoded and told to COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from bench.floor.writing import text

CONTACT_COLUMNS = "id bigint PRIMARY KEY, org_id bigint, name text, email text, status text, version bigint"


class Contact(msgspec.Struct, gc=False):
    """A contact."""

    id: int
    org_id: int
    name: str
    email: str
    status: str
    version: int

    def line(self) -> str:
        """Its row."""
        name, email, status = text(self.name), text(self.email), text(self.status)
        return f"{self.id}\t{self.org_id}\t{name}\t{email}\t{status}\t{self.version}\n"


class Organisation(msgspec.Struct, gc=False):
    """An organisation."""

    id: int
    name: str

    def line(self) -> str:
        """Its row."""
        return f"{self.id}\t{text(self.name)}\n"


class Invoice(msgspec.Struct, gc=False):
    """An invoice."""

    id: int
    contact_id: int
    amount: int

    def line(self) -> str:
        """Its row."""
        return f"{self.id}\t{self.contact_id}\t{self.amount}\n"


Payload = TypeVar("Payload", Contact, Organisation, Invoice)


def last_states(payload: type[Payload]) -> Callable[[Iterable[bytes]], dict[int, Payload]]:
    """Decodes every one of the events of a kind, in order, and keeps the last state of each thing."""
    event: Any = msgspec.defstruct("Event", [("data", payload)], gc=False)
    decode = msgspec.json.Decoder(event).decode

    def fold(values: Iterable[bytes]) -> dict[int, Payload]:
        last: dict[int, Payload] = {}
        for value in values:
            state = decode(value).data
            last[state.id] = state
        return last

    return fold
