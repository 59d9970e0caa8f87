"""What a projector would make a dead letter of is refused before it is published."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh_core.cli.validation import EventRefused, Validator
from mesh_core.model import Catalog

VALIDATOR = Validator(Catalog.load("projections.northwind"))
LINE = {"product_id": 1, "unit_price": 18, "quantity": 2, "discount": 0}


def placed(subject: str, *items: dict[str, Any]) -> str:
    data = {"order_id": 20001, "customer_id": "QUICK", "employee_id": 1, "items": items}
    times = {"placed_at": "2026-01-01T00:00:00Z", "required_on": "2026-02-01"}
    event = {
        "id": "1",
        "source": "/sales",
        "type": "sales.order.placed.v1",
        "subject": subject,
        "data": data | times,
    }
    return json.dumps(event | {"specversion": "1.0", "time": "2026-01-01T00:00:00Z"})


def test_a_good_event_passes() -> None:
    assert VALIDATOR.read(placed("20001", LINE))["subject"] == "20001"


def test_a_subject_that_is_not_the_key_is_refused() -> None:
    with pytest.raises(EventRefused, match="key_mismatch: The record key is '20002'"):
        VALIDATOR.read(placed("20002", LINE))


def test_a_list_with_one_key_twice_is_refused() -> None:
    with pytest.raises(EventRefused, match=r"does_not_fit: sales\.line: items has two elements of the key 1"):
        VALIDATOR.read(placed("20001", LINE, LINE))
