"""How records become events: each by itself, whatever stands beside it."""

from __future__ import annotations

from mesh_core.contracts.refusals import Refusal
from mesh_core.engine.intake import Intake
from mesh_core.log import Chunk, Headers, TopicPartition
from tests.engine.domain import CATALOG

STRUCTURED = (
    b'{"specversion":"1.0","id":"1","source":"/crm","type":"crm.customer.renamed.v1","subject":"c1",'
    b'"time":"2026-01-01T00:00:00Z","data":{"customer_id":"c1","name":"Ann"}}'
)
TYPED: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
TRACED: Headers = [*TYPED, ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
BINARY: Headers = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/crm"),
    ("ce_type", b"crm.customer.renamed.v1"),
    ("ce_time", b"2026-01-01T00:00:00Z"),
    ("content-type", b"application/json"),
]
DATA = b'{"customer_id":"c1","name":"Ann"}'
ODD: Headers = [("ce_specversion", b"1.0")]
"""A binary event without most of its attributes, whatever its value says."""


def read(*records: tuple[bytes, Headers]) -> list[str]:
    intake = Intake(CATALOG.entities.values(), CATALOG.contracts.values())
    count = len(records)
    chunk = Chunk(
        TopicPartition("crm.events", 0),
        [b"c1"] * count,
        [value for value, _ in records],
        list(range(count)),
        [0] * count,
        [headers for _, headers in records],
        count,
        0,
    )
    items = intake.batch(chunk).items
    return [item.reason if isinstance(item, Refusal) else item.data.name for item in items]


def test_structured_and_binary_events_say_the_same() -> None:
    assert read((STRUCTURED, TYPED), (STRUCTURED, TRACED), (STRUCTURED, ()), (DATA, BINARY)) == ["Ann"] * 4


def test_what_a_record_is_does_not_depend_on_its_neighbours() -> None:
    (alone,) = read((STRUCTURED, ODD))
    for beside in (TYPED, TRACED, BINARY):
        assert read((STRUCTURED, ODD), (STRUCTURED, beside))[0] == alone
