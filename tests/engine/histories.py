"""Hypothesis strategies: histories of the test domain, and plans that deliver them in all sorts of ways.

A history is what the log holds. A plan delivers it as chunks, as a consumer would: any batch split, any
interleaving that keeps the order of each partition, some chunks again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from mesh_core.log.interface import Chunk
from mesh_core.log.position import TopicPartition
from tests.engine.domain import PARTITIONS, TOPIC_IDS
from tests.engine.events import Fault, Said, decision, encoded
from tests.engine.naive_state import Record

CUSTOMERS = ("c1", "é,%")
ORDERS = PRODUCTS = (1, 2)
WORKFLOWS = ("0197a000-0000-7000-8000-000000000001", "0197a000-0000-7000-8000-00000000000b")
FAULTS: tuple[Fault, ...] = (
    "not_json", "not_utf8", "not_a_cloudevent", "missing_field", "wrong_type", "huge_number", "nul",
    "surrogate", "no_zone", "unknown_version", "unknown_type", "wrong_key", "no_key", "null",
)  # fmt: skip

TEXTS = st.sampled_from(("a", "B", "b", "é", "Z", "", "x"))
POINTS = st.integers(-2, 9)
PRICES = st.sampled_from([Decimal(text) for text in ("0", "1.5", "2.50", "9.990", "12", "0.333", "1e6")])
"""With 0.333 and 1e6, which columns of two places and eight digits refuse."""
TIMES = st.sampled_from(("2026-01-01T10:00:00Z", "2026-01-01T10:00:00+01:00", "2026-01-02T00:00:00Z"))
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"product_id": st.sampled_from(PRODUCTS), "quantity": st.integers(1, 4), "unit_price": PRICES}
    ),
    max_size=4,
)
"""Now and then with one product twice, which is refused."""
TAGS = st.none() | st.dictionaries(
    st.sampled_from("ab"), st.integers(0, 3) | st.just(Decimal("0.10")), max_size=2
)

_CRM: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "crm.customer.saved.v1": {"name": TEXTS, "city": st.none() | TEXTS, "tags": TAGS},
    "crm.customer.renamed.v1": {"name": TEXTS},
    "crm.customer.visited.v1": {"points": POINTS, "spent": PRICES, "at": TIMES},
    "crm.customer.removed.v1": {},
}
_SALES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "sales.order.placed.v1": {
        "customer_id": st.sampled_from(CUSTOMERS),
        "placed_at": TIMES,
        "items": ITEMS,
        "note": st.none() | TEXTS,
    },
    "sales.order.moved.v1": {"customer_id": st.sampled_from(CUSTOMERS)},
    "sales.order.noted.v1": {"note": st.none() | TEXTS},
    "sales.order.items_changed.v1": {"items": ITEMS},
    "sales.order.item_priced.v1": {"product_id": st.sampled_from(PRODUCTS), "unit_price": PRICES},
    "sales.order.clicked.v1": {"clicks": POINTS},
    "sales.order.cancelled.v1": {},
}
_STOCK: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "stock.product.listed.v1": {"name": TEXTS, "price": st.none() | PRICES},
    "stock.product.priced.v1": {"price": st.none() | PRICES},
}


def _of(topic: str, key_field: str, keys: Sequence[Any], types: Mapping[str, Any]) -> st.SearchStrategy[Said]:
    def said(kind: str, key: Any) -> st.SearchStrategy[Said]:
        return st.fixed_dictionaries(types[kind]).map(
            lambda data: Said(topic, str(key), kind, {key_field: key, **data})
        )

    return st.tuples(st.sampled_from(list(types)), st.sampled_from(keys)).flatmap(lambda both: said(*both))


WIDE: st.SearchStrategy[Said] = st.one_of(
    _of("crm.events", "customer_id", CUSTOMERS, _CRM),
    _of("sales.events", "order_id", ORDERS, _SALES),
    _of("sales.events", "order_id", ORDERS, _SALES),
    _of("stock.events", "product_id", PRODUCTS, _STOCK),
)
"""Sayings of all services: what views make of them."""
NARROW: Sequence[st.SearchStrategy[Said]] = (
    _of("crm.events", "customer_id", CUSTOMERS[:1], _CRM),
    _of("sales.events", "order_id", ORDERS[:1], _SALES),
    _of("stock.events", "product_id", PRODUCTS[:1], _STOCK),
)
"""Sayings of one thing alone, so that faults, repetitions and decisions meet."""


@dataclass(frozen=True)
class Say:
    """Append an event; `sequenced` gives it the next sequence of its key, `gap` skips offsets before it."""

    said: Said
    sequenced: bool
    workflow: str | None
    fault: Fault | None
    gap: int


@dataclass(frozen=True)
class Resend:
    """Append once more, as an outbox relay may, one of the events before that carry what recognises it."""

    which: int


@dataclass(frozen=True)
class Decide:
    """Decide about one of the records (counted from the first, cyclic), or of those with a fault.

    `edit` is what an edit puts in its place if it is of the same topic, else the event as it was meant.
    """

    which: int
    of_faulty: bool
    action: str
    edit: Said
    edit_fault: Fault | None


@dataclass(frozen=True)
class CreateWorkflow:
    """Append to mesh.events that a workflow was created, or that an entry was registered by hand."""

    workflow: str
    name: str | None
    entry: tuple[str, str, str] | None


Step = Say | Resend | Decide | CreateWorkflow

_rarely = st.sampled_from((0, 0, 0, 0, 0, 1))


def steps(sayings: st.SearchStrategy[Said], good: int, resends: int = 1) -> st.SearchStrategy[Step]:
    """Steps in which `good` of `good` + 1 sayings have no fault of the record as a whole."""
    say = st.builds(
        Say,
        sayings,
        st.booleans(),
        st.none() | st.none() | st.sampled_from(WORKFLOWS),
        st.sampled_from((*(None,) * good * len(FAULTS), *FAULTS)),
        _rarely,
    )
    decide = st.builds(
        Decide,
        st.integers(0, 40),
        st.booleans(),
        st.sampled_from(("edit", "discard", "retry")),
        sayings,
        st.sampled_from((None, None, None, "not_json", "wrong_key")),
    )
    create = st.builds(
        CreateWorkflow,
        st.sampled_from(WORKFLOWS),
        st.none() | TEXTS,
        st.none() | st.sampled_from((("crm", "customer", "c1"), ("sales", "order", "2"), ("x", "y", "z"))),
    )
    return st.one_of(*[say] * 5, *[st.builds(Resend, st.integers(0, 40))] * resends, decide, create)


WIDE_STEPS = steps(WIDE, good=4)
NARROW_STEPS = [steps(sayings, good=2, resends=3) for sayings in NARROW]


@dataclass(frozen=True)
class History:
    """What the log holds: the records of each partition in order, and where each partition ends."""

    records: tuple[Record, ...]
    ends: Mapping[TopicPartition, int]

    def of(self, partition: TopicPartition) -> list[Record]:
        """The records of one partition, by offset."""
        return [r for r in self.records if (r.topic, r.partition) == (partition.topic, partition.partition)]


class _Writer:
    """Turns steps into records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ends: dict[TopicPartition, int] = {}
        self.sequences: dict[tuple[str, str], int] = {}
        self.repeatable: list[tuple[str, str, bytes | None, bytes | None]] = []
        self.faulty: list[Record] = []
        self.meant: dict[tuple[str, int, int], tuple[Said, int | None]] = {}

    def append(self, topic: str, key_text: str, key: bytes | None, value: bytes | None, gap: int = 0) -> None:
        partition = TopicPartition(topic, zlib.crc32(key_text.encode()) % PARTITIONS[topic])
        offset = self.ends.get(partition, 0) + gap
        self.records.append(Record(topic, partition.partition, offset, key, value))
        self.ends[partition] = offset + 1

    def say(self, step: Say) -> None:
        said, number = step.said, len(self.records)
        sequence: int | None = None
        if step.sequenced:
            line = (said.topic, said.key)
            sequence = self.sequences[line] = self.sequences.get(line, 0) + 1
        key, value = encoded(
            said,
            event_id=f"e{number}",
            second=number,
            # CloudEvents has it as text; both are taken.
            sequence=str(sequence) if sequence is not None and sequence % 2 else sequence,
            workflow=step.workflow,
            fault=step.fault,
        )
        self.append(said.topic, said.key, key, value, step.gap)
        self.meant[self.records[-1].place] = said, sequence
        if step.fault not in (None, "unknown_type") or '"unit_price":0.333' in str(value):
            self.faulty.append(self.records[-1])
        if sequence is not None or said.type == "sales.order.clicked.v1":
            self.repeatable.append((said.topic, said.key, key, value))

    def decide(self, step: Decide) -> None:
        if not self.records:
            return
        among = self.faulty if step.of_faulty and self.faulty else self.records
        record = among[step.which % len(among)]
        if record.topic == "mesh.events":
            return
        value = None
        if step.action == "edit":
            value = self.edited(record, step)
        number = len(self.records)
        key, value = decision(TOPIC_IDS[record.topic], *record.place, step.action, value, number=number)
        self.append("mesh.events", key.decode(), key, value)

    def edited(self, record: Record, step: Decide) -> bytes | None:
        said, number = step.edit, len(self.records)
        meant, sequence = self.meant.get(record.place, (said, None))
        if said.topic == meant.topic:
            name, value = next(iter(meant.data.items()))
            said, sequence = Said(meant.topic, meant.key, said.type, {**said.data, name: value}), None
        else:
            said = Said(meant.topic, meant.key, meant.type, _mended(meant.data))
        return encoded(
            said,
            event_id=f"edit{number}",
            second=number,
            sequence=number if number % 3 == 0 else sequence,  # neither asked nor remembered
            workflow=WORKFLOWS[0] if number % 2 else None,  # registers nothing
            fault=step.edit_fault,
        )[1]

    def create(self, step: CreateWorkflow) -> None:
        kind, data = "mesh.workflow.created.v1", {"workflow_id": step.workflow, "name": step.name}
        if step.entry is not None:
            kind = "mesh.entry.registered.v1"
            names = ("entry_service", "entry_entity", "entry_key")
            data = {"workflow_id": step.workflow, **dict(zip(names, step.entry, strict=True))}
        said = Said("mesh.events", step.workflow, kind, data)
        key, value = encoded(said, event_id=f"m{len(self.records)}", second=len(self.records))
        self.append(said.topic, said.key, key, value)


def _mended(data: Mapping[str, Any]) -> dict[str, Any]:
    """Data without what a column refuses."""
    mended = {name: Decimal(2) if isinstance(value, Decimal) else value for name, value in data.items()}
    if "items" in data:
        mended["items"] = [_mended(item) for item in {i["product_id"]: i for i in data["items"]}.values()]
    return mended


def written(steps: Sequence[Step]) -> History:
    """The history that `steps` make."""
    writer = _Writer()
    for step in steps:
        match step:
            case Say():
                writer.say(step)
            case Resend(which) if writer.repeatable:
                topic, key_text, key, value = writer.repeatable[which % len(writer.repeatable)]
                writer.append(topic, key_text, key, value)
            case Decide():
                writer.decide(step)
            case CreateWorkflow():
                writer.create(step)
    return History(tuple(writer.records), dict(writer.ends))


def _plainly(said: st.SearchStrategy[Said]) -> st.SearchStrategy[Say]:
    return st.builds(Say, said, st.just(False), st.none() | st.sampled_from(WORKFLOWS), st.none(), st.just(0))


def _only(topic: str, field: str, key: Any, kind: str, types: Mapping[str, Any]) -> st.SearchStrategy[Say]:
    return _plainly(_of(topic, field, (key,), {kind: types[kind]}))


SETTLED: st.SearchStrategy[list[Step]] = st.tuples(
    *(_only("crm.events", "customer_id", key, "crm.customer.saved.v1", _CRM) for key in CUSTOMERS),
    *(_only("stock.events", "product_id", key, "stock.product.listed.v1", _STOCK) for key in PRODUCTS),
    *(_only("sales.events", "order_id", key, "sales.order.placed.v1", _SALES) for key in ORDERS),
).map(list)
"""Customers, products and orders that are there, so that what follows has something to change."""


def histories(max_steps: int = 40) -> st.SearchStrategy[History]:
    """Histories of up to `max_steps` steps, two in three of all services, the others of one thing.

    Half of them begin with everything in its place.
    """
    kinds = st.sampled_from([*[WIDE_STEPS] * 2 * len(NARROW_STEPS), *NARROW_STEPS])
    # Asked for the length first, since lists tend to be short.
    steps = st.tuples(st.integers(1, max_steps), kinds).flatmap(
        lambda both: st.lists(both[1], min_size=both[0], max_size=both[0])
    )
    return st.tuples(st.just([]) | SETTLED, steps).map(lambda both: written([*both[0], *both[1]]))


Poll = tuple[Chunk, ...]
"""What one poll returned: at most one chunk a partition."""


@dataclass(frozen=True)
class Plan:
    """A history, and the polls that deliver all of it. `again` are polls that repeat some records."""

    history: History
    polls: tuple[Poll, ...]
    again: frozenset[int] = frozenset()

    def __str__(self) -> str:
        """The records, one a line, for the report of a failure."""
        return "\n".join(
            f"poll {number}: {record.topic}[{record.partition}]@{record.offset} {record.key!r} {record.value!r:.400}"
            for number, poll in enumerate(self.polls)
            for chunk in poll
            for record in records_of(chunk)
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("…")  # the tests note it in readable form


def records_of(chunk: Chunk) -> list[Record]:
    """The records of a chunk, for the naive model."""
    at = chunk.partition
    columns = zip(chunk.offsets, chunk.keys, chunk.values, strict=True)
    return [Record(at.topic, at.partition, offset, key, value) for offset, key, value in columns]


def chunk_of(history: History, partition: TopicPartition, first: int, end: int) -> Chunk:
    """Records first..end (counted, not offsets) of a partition as a chunk."""
    records = history.of(partition)
    taken = records[first:end]
    last = end >= len(records)
    return Chunk(
        partition,
        [record.key for record in taken],
        [record.value for record in taken],
        [record.offset for record in taken],
        [1_767_225_600_000 + record.offset for record in taken],
        [],
        history.ends[partition] if last else taken[-1].offset + 1,
        records[first - 1].offset + 1 if first else 0,
    )


@st.composite
def plans(
    draw: Callable[[st.SearchStrategy[Any]], Any],
    of: st.SearchStrategy[History] | None = None,
    *,
    redeliver: bool = True,
    early_decisions: bool = True,
) -> Plan:
    """Deliveries of a history. Decisions (all of mesh.events) come in polls of their own.

    `redeliver`: some polls start before where the last one of their partition ended. `early_decisions`: a
    decision may come before its record.
    """
    history: History = draw(of if of is not None else histories())
    left = {partition: len(history.of(partition)) for partition in sorted(history.ends)}
    done = dict.fromkeys(left, 0)
    polls: list[Poll] = []
    again: set[int] = set()
    while open_ := [partition for partition, count in left.items() if done[partition] < count]:
        mesh = [partition for partition in open_ if partition.topic == "mesh.events"]
        others = [partition for partition in open_ if partition not in mesh]
        allowed = mesh if not others else open_ if early_decisions else others
        first = draw(st.sampled_from(allowed))
        group = [first] if first in mesh else draw(st.lists(st.sampled_from(others), unique=True))
        if first not in group:
            group = [first, *group]
        chunks = []
        for partition in group:
            start = done[partition]
            end = min(left[partition], start + draw(st.integers(1, 12)))
            if redeliver and start and draw(_rarely):
                start = draw(st.integers(0, start - 1))
                again.add(len(polls))
            chunks.append(chunk_of(history, partition, start, end))
            done[partition] = end
        polls.append(tuple(chunks))
    return Plan(history, tuple(polls), frozenset(again))
