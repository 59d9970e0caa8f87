"""What the benchmarks declare for the emitting side: payments, each of some account."""

from __future__ import annotations

from decimal import Decimal

from mesh_core.model import Col, Entity, Event, Key, upsert
from mesh_core.model.grants import grant, publishing


class PaymentMade(Event, type="payments.account.paid.v1"):
    """Somebody paid something."""

    key_fields = ("account",)
    account: str
    amount: Decimal
    currency: str
    note: str


class Account(Entity, service="payments"):
    """The last payment of an account."""

    account: Key[str]
    amount: Col[Decimal]
    folds = upsert(PaymentMade)


grants = [grant(publishing("payments"), "reader")]
