"""The rows of one entity version that a batch changes, folded to one patch a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

from mesh_core.engine.compiled import Key, Values
from mesh_core.model.identifiers import key_text
from mesh_core.model.types import constant_value
from mesh_core.store.entity_writes import EntityVersion, Shape
from mesh_core.store.errors import ForeignPartition

EXACT = Context(prec=100_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Sums of up to a billion numbers of the bounded length that events may carry, with no rounding."""


class EntityRows:
    """Folds events in order; what comes out is staged and written once a key.

    `present` has the partition of every key (or record key, for `each` entities) whose row was there before the
    batch. It is looked up beforehand for keys that any event patches or deletes, unless that is `blind`; upserts need
    not know.
    """

    blind = False

    def __init__(self, version: EntityVersion) -> None:
        self.version = version
        self.rows: dict[Key, tuple[Shape, Values, int]] = {}
        self.present: dict[Key, int] = {}
        self.cleared: dict[Key, int] = {}
        self._record = len(version.model.record_key)
        self._nested = self._record < len(version.model.key)
        self._by_record: dict[Key, set[Key]] = {}
        self._defaults = {
            c.name: constant_value(c.type.kind, c.default) for c in version.model.columns if not c.key
        }
        self._full = Shape("upsert", tuple((name, "set") for name in self._defaults))

    def upsert(self, key: Key, shape: Shape, values: Values, partition: int, whole: bool = False) -> None:
        """Create or change the row. `whole`: the values replace all there was."""
        before = self.rows.get(key)
        if before is None:
            if self._nested and key[: self._record] in self.cleared:
                values, shape = self._replacement(shape, values), self._full
        elif before[2] != partition:
            raise self._foreign(key, before[2], partition)
        elif before[0].kind == "delete":
            values, shape = self._replacement(shape, values), self._full
        elif not whole:
            shape, values = combine(before[0], before[1], shape, values)
        self._put(key, shape, values, partition)

    def replace_all(self, found: Mapping[Key, Values], shape: Shape, partition: int) -> None:
        """Create rows, or replace all there was of them; the entity has no `each`."""
        if self.rows.keys().isdisjoint(found):
            self.rows.update({key: (shape, values, partition) for key, values in found.items()})
        else:
            for key, values in found.items():
                self.upsert(key, shape, values, partition, True)

    def patch(self, key: Key, shape: Shape, values: Values, partition: int) -> bool:
        """Change the row if there is one; whether there was."""
        before = self.rows.get(key)
        if before is None:
            if (self._nested and key[: self._record] in self.cleared) or not self._was_there(key, partition):
                return False
        elif before[0].kind == "delete":
            return False
        else:
            if before[2] != partition:
                raise self._foreign(key, before[2], partition)
            shape, values = combine(before[0], before[1], shape, values)
        self._put(key, shape, values, partition)
        return True

    def delete(self, record_key: Key, partition: int) -> bool:
        """Remove the row, or all rows of the record key; whether there was any."""
        if self._nested:
            there = self._has_rows(record_key, partition)
            self.replace(record_key, {}, self._full, partition)
            return there
        before = self.rows.get(record_key)
        there = self._was_there(record_key, partition) if before is None else before[0].kind != "delete"
        if there:
            self.rows[record_key] = (Shape("delete"), (), partition)
        return there

    def replace(self, record_key: Key, rows: Mapping[Key, Values], shape: Shape, partition: int) -> None:
        """Make `rows` all that there is of the record key (`each`)."""
        before = self.cleared.get(record_key, partition)
        if before != partition:
            raise self._foreign(record_key, before, partition)
        for key in self._by_record.pop(record_key, ()):
            del self.rows[key]
        self.cleared[record_key] = partition
        for key, values in rows.items():
            self._put(key, self._full, self._replacement(shape, values), partition)

    def counts(self) -> Counter[Shape]:
        """How many rows each shape has."""
        # By identity first: hashing a shape costs more than all else here, and most rows share one.
        shapes = {id(shape): shape for shape, _, _ in self.rows.values()}
        found: Counter[Shape] = Counter()
        for identity, count in Counter(id(shape) for shape, _, _ in self.rows.values()).items():
            found[shapes[identity]] += count
        return found

    def staged(self, numbers: dict[Shape, int]) -> Iterator[list[Any]]:
        """Rows to stage, giving each shape met a number in `numbers`."""
        columns = {column.name: n for n, column in enumerate(self.version.model.columns)}
        width = len(columns)
        key_width = len(self.version.model.key)
        places: dict[Shape, list[int] | None] = {}
        last: Shape | None = None
        number, order = 0, None
        for key, (shape, values, partition) in self.rows.items():
            if shape is not last:  # hashing a shape costs more than all else here, and most rows share one
                if shape not in numbers:
                    numbers[shape] = len(numbers)
                    wanted = [columns[name] for name, _ in shape.operations]
                    places[shape] = None if wanted == list(range(key_width, width)) else wanted
                number, order, last = numbers[shape], places[shape], shape
            if order is None:
                yield [*key, *values, partition, number]
                continue
            row = [*key, *(None,) * (width - key_width), partition, number]
            for place, value in zip(order, values, strict=True):
                row[place] = value
            yield row

    def _put(self, key: Key, shape: Shape, values: Values, partition: int) -> None:
        self.rows[key] = (shape, values, partition)
        if self._nested:
            self._by_record.setdefault(key[: self._record], set()).add(key)

    def _has_rows(self, record_key: Key, partition: int) -> bool:
        if self._by_record.get(record_key):
            return True
        return record_key not in self.cleared and self._was_there(record_key, partition)

    def _was_there(self, key: Key, partition: int) -> bool:
        owner = self.present.get(key)
        if owner is not None and owner != partition:
            raise self._foreign(key, owner, partition)
        return owner is not None

    def _replacement(self, shape: Shape, values: Values) -> Values:
        """All columns of a row that starts from nothing."""
        row = dict(self._defaults)
        for (name, op), value in zip(shape.operations, values, strict=True):
            row[name] = _apply(op, row[name], value)
        return tuple(row.values())

    def _foreign(self, key: Key, first: int, second: int) -> ForeignPartition:
        return foreign_partition(self.version, key, first, second)


def foreign_partition(
    version: EntityVersion, key: Iterable[Any], first: int, second: int
) -> ForeignPartition:
    """The error of a key that came from two partitions."""
    return ForeignPartition(
        version.model.topic,
        f"The key {key_text(tuple(key))!r} of {version.model.name} came from partition {second} of "
        f"{version.model.topic}, but its row is written by partition {first}.",
        remedy="Make all producers hash keys with murmur2 (librdkafka: partitioner=murmur2_random), and re-create "
        "the topic with its events in the right partitions.",
    )


def combine(first: Shape, before: Values, second: Shape, after: Values) -> tuple[Shape, Values]:
    """One patch that does what `first` and then `second` would."""
    state = {name: (op, value) for (name, op), value in zip(first.operations, before, strict=True)}
    for (name, op), value in zip(second.operations, after, strict=True):
        if op == "set" or name not in state:
            state[name] = (op, value)
        else:
            old, held = state[name]
            state[name] = (old if old != "set" else "set", _apply(op, held, value))
    return (
        Shape(first.kind, tuple((name, op) for name, (op, _) in state.items())),
        tuple(value for _, value in state.values()),
    )


def _apply(op: str, held: Any, value: Any) -> Any:
    if op == "set" or held is None:
        return value
    match op:
        case "add":
            return EXACT.add(Decimal(held), Decimal(value))
        case "max":
            return max(held, value)
        case _:
            return min(held, value)
