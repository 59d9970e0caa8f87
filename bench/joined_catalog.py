"""What the benchmarks declare for W2 and W4: contacts with their organisation and their invoices, of three services."""

from __future__ import annotations

from bench.catalog import Contact, ContactUpdated
from mesh_core.model import Col, Entity, Event, Key, View, many, one, upsert
from mesh_core.model.grants import grant


class OrganisationUpdated(Event, type="registry.organisation.updated.v1"):
    """The whole state of an organisation after a change."""

    key_fields = ("id",)
    id: int
    name: str
    country: str
    version: int


class InvoiceUpdated(Event, type="billing.invoice.updated.v1"):
    """The whole state of an invoice after a change; it may have gone to another contact."""

    key_fields = ("id",)
    id: int
    contact_id: int
    amount: int
    status: str
    number: str
    version: int


class Organisation(Entity, service="registry"):
    """Where contacts belong."""

    id: Key[int]
    name: Col[str]
    folds = upsert(OrganisationUpdated)


class Invoice(Entity, service="billing"):
    """What contacts owe."""

    id: Key[int]
    contact_id: Col[int]
    amount: Col[int]
    folds = upsert(InvoiceUpdated)


organisation = one(Contact.org_id, Organisation.id)
invoices = many(Invoice.contact_id, Contact.id)

contact_overview = View(
    "contact_overview",
    Contact,
    doc="A contact with the name of its organisation and what it was invoiced.",
    id=Contact.id,
    org_id=Contact.org_id,
    name=Contact.name,
    email=Contact.email,
    status=Contact.status,
    version=Contact.version,
    org_name=organisation[Organisation.name],
    invoice_count=invoices.count(),
    invoice_sum=invoices.sum(Invoice.amount),
)

grants = [grant(contact_overview, "reader")]

__all__ = [
    "Contact", "ContactUpdated", "Invoice", "InvoiceUpdated", "Organisation", "OrganisationUpdated", "contact_overview",
]  # fmt: skip
