"""What the benchmarks declare for W1 and W3: a contact of some enterprise system."""

from __future__ import annotations

from mesh_core.model import Col, Entity, Event, Key, upsert


class ContactUpdated(Event, type="erp.contact.updated.v1"):
    """The whole state of a contact after a change."""

    key_fields = ("id",)
    id: int
    org_id: int
    name: str
    email: str
    status: str
    version: int


class Contact(Entity, service="erp"):
    """The latest state of a contact."""

    id: Key[int]
    org_id: Col[int]
    name: Col[str]
    email: Col[str]
    status: Col[str]
    version: Col[int]
    folds = upsert(ContactUpdated)
