"""The whole projector as plain dictionaries, one record at a time: what the engine must come to.

It shares no code with the engine. Where the rules leave room, this is the reading taken:

- Refusals depend on the record alone: a refused record is a dead letter even behind another one, never
  parked. Refused for all (version 0): unreadable, or its key is not the record key, or that is longer than
  512 bytes. Refused for one entity: digits beyond a column's, two elements of one key, an `add` without
  sequence or window.
- A decision counts only where its record is refused (for an entity, or for all): edit puts another value in
  its place there, discard ignores it there. It does nothing to what is not refused, so it does not matter
  whether it comes before or after its record. The last decision on a record stands.
- What is not newer than the last sequence applied is ignored before anything else is asked, so it neither
  parks nor supersedes; under version 0 this is so if it holds for every entity that folds the event.
- A whole-state event supersedes only what it is newer than: nothing held with the same or a later sequence.
  Under version 0 it must be whole-state or a delete for every entity of the topic, and refused by none.
- Releasing goes in the order of the log up to the next dead letter. An edited event that has something
  before it is parked.
- Counters: a record counts by its worst outcome over the entities. Being superseded moves nothing; the records
  in line with what a decision resolves are counted anew, by their outcomes but for those superseded.
- A decision event counts as applied. A null value is a delete for the entities that take tombstones, and
  nothing for the others; where none does, it is refused.
- An event registers its workflow when it is first read (an edited one when the edit is), parked or not.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from mesh_core.model.entity import EntityModel
from mesh_core.model.folds import Fold
from tests.engine.naive_events import NaiveEvent, Refused, read_event
from tests.engine.naive_rows import fits, folded_rows, key_of
from tests.engine.naive_state import ALL, Held, NaiveState, Record, is_newer, is_whole, key_text, window
from tests.engine.naive_views import Tables


class NaiveMesh(NaiveState):
    """`apply` every record once, in any order that keeps each partition's."""

    def view(self, name: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The rows of a view by key, computed from scratch."""
        return Tables(self.catalog, self.rows).view(self.catalog.views[name])

    # --- one record ---------------------------------------------------------------------------------------

    def apply(self, record: Record) -> None:
        """Consume a record. One that was consumed before does nothing."""
        at = (record.topic, record.partition)
        if record.offset < self.next_offset.get(at, 0):
            return
        self.next_offset[at] = record.offset + 1
        counts = self.counters.setdefault(at, Counter())
        counts["consumed"] += 1
        self.outcomes[record.place] = {}
        self._take(record, record.value, self.decisions.get(record.place))
        self.counted[record.place] = self._category(record.place)
        counts[self.counted[record.place]] += 1

    def _take(self, record: Record, value: bytes | None, decision: tuple[str, bytes | None] | None) -> None:
        """A record that is met for the first time, or an edit of one that was refused for all."""
        try:
            event = self._read(record, value)
        except Refused as refusal:
            if decision is not None and decision[0] == "discard":
                self._outcome(record, ALL, "ignored")
            elif decision is not None and decision[0] == "edit":
                self._take(record, decision[1], None)
            else:
                self._hold(record, ALL, "dead", str(refusal), value)
            return
        if event is None:
            self._tombstone(record)
            return
        self._register(record, event)
        if event.type == "mesh.dead_letter.decided.v1":
            self._outcome(record, ALL, "applied")
            self._decide(event)
            return
        if self._waits_for_all(record, event):
            self._hold(record, ALL, "parked", "behind", value, event)
            return
        self._fold(record, event, value)

    def _read(self, record: Record, value: bytes | None) -> NaiveEvent | None:
        """The event, None for a tombstone. Raises Refused for what no entity can take."""
        entities = self._entities(record.topic)
        tombstone = value is None and any(entity.tombstones for entity in entities)
        contracts = {c.type: c for c in self.catalog.contracts.values() if c.topic == record.topic}
        event = None if tombstone else read_event(value, contracts)
        if len(record.key or b"") > 512:
            raise Refused("key_too_long")
        if event is None:
            for entity in entities:
                if entity.tombstones and self._parsed_key(entity, record) is None:
                    raise Refused("key_mismatch")
            return None
        for entity, fold in self._folds(record.topic, event):
            if key_text(key_of(fold, event, None)[: len(entity.record_key)]).encode() != record.key:
                raise Refused("key_mismatch")
        return event

    def _fold(self, record: Record, event: NaiveEvent, value: bytes | None) -> None:
        """Fold into every entity, each on its own."""
        for entity, fold in self._folds(record.topic, event):
            problem = self._problem(entity, fold, event)
            decision = self.decisions.get(record.place)
            if problem is None:
                self._outcome(record, entity.name, self._arrive(record, entity, fold, event, value))
            elif decision is not None and decision[0] == "discard":
                self._outcome(record, entity.name, "ignored")
            elif decision is not None and decision[0] == "edit" and decision[1] != value:
                self._fold_edit(record, entity, decision[1])
            else:
                self._hold(record, entity.name, "dead", problem, value, event)

    def _fold_edit(self, record: Record, entity: EntityModel, value: bytes | None) -> None:
        """What an edit says in place of an event that one entity refused."""
        try:
            event = self._checked(record, entity, value)
        except Refused as refusal:
            self._hold(record, entity.name, "dead", str(refusal), value)
            return
        fold = self._fold_of(entity, event)
        self._outcome(
            record, entity.name, self._arrive(record, entity, fold, event, value) if fold else "ignored"
        )

    def _checked(self, record: Record, entity: EntityModel, value: bytes | None) -> NaiveEvent:
        event = self._read(record, value)
        if event is None:
            raise Refused("null_payload")
        fold = self._fold_of(entity, event)
        if fold is not None and (problem := self._problem(entity, fold, event)):
            raise Refused(problem)
        return event

    def _problem(self, entity: EntityModel, fold: Fold, event: NaiveEvent) -> str | None:
        adds = [operation for operation in fold.operations if operation.kind == "add"]
        if problem := fits(entity, fold, event):
            return problem
        if event.sequence is None and any(operation.window is None for operation in adds):
            return "missing_sequence"
        return None

    def _arrive(
        self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent, value: bytes | None
    ) -> str:
        """An event that an entity can take: ignored, parked or applied."""
        if self._is_repeated(record, entity, fold, event):
            return "ignored"
        waiting = self.held.get((entity.name, *self._line(record)), [])
        if waiting:
            if not is_whole(entity, fold) or not is_newer(event, waiting):
                self._hold(record, entity.name, "parked", "behind", value, event)
                return "parked"
            self._supersede(entity.name, record)
        return self._change(record, entity, fold, event)

    def _change(self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent) -> str:
        if event.sequence is not None:
            self.sequences[entity.name, record.key_text] = event.sequence
        elif window(fold) is not None:
            self.recent[entity.name, record.topic, record.partition, event.id] = record.offset
        rows, done = folded_rows(entity, fold, event, self.rows[entity.name])
        self.rows[entity.name] = rows
        return "applied" if done else "ignored"

    def _is_repeated(self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent) -> bool:
        if event.sequence is not None:
            return event.sequence <= self.sequences.get((entity.name, record.key_text), event.sequence - 1)
        within = window(fold)
        seen = self.recent.get((entity.name, record.topic, record.partition, event.id))
        return within is not None and seen is not None and record.offset - seen <= within

    def _tombstone(self, record: Record) -> None:
        entities = self._entities(record.topic)
        if self.held.get((ALL, *self._line(record))):
            if not all(entity.tombstones for entity in entities):
                self._hold(record, ALL, "parked", "behind", None)
                return
            self._supersede(ALL, record)
        self._delete_by_tombstone(record)

    def _delete_by_tombstone(self, record: Record) -> None:
        for entity in self._entities(record.topic):
            if entity.tombstones:
                self._supersede(entity.name, record)
                key = self._parsed_key(entity, record)
                rows = self.rows[entity.name]
                kept = {at: row for at, row in rows.items() if at[: len(entity.record_key)] != key}
                self._outcome(record, entity.name, "applied" if len(kept) < len(rows) else "ignored")
                self.rows[entity.name] = kept

    # --- held events --------------------------------------------------------------------------------------

    def _waits_for_all(self, record: Record, event: NaiveEvent) -> bool:
        """Whether the event is parked behind one that could not be read; or supersedes it."""
        waiting = self.held.get((ALL, *self._line(record)), [])
        folds = self._folds(record.topic, event)
        if not waiting or not folds:
            return False
        if all(self._is_repeated(record, entity, fold, event) for entity, fold in folds):
            return False
        refused = any(self._problem(entity, fold, event) for entity, fold in folds)
        whole = {entity.name for entity, fold in folds if is_whole(entity, fold)}
        every = {entity.name for entity in self._entities(record.topic)}
        if refused or whole != every or not is_newer(event, waiting):
            return True
        self._supersede(ALL, record)
        return False

    def _decide(self, event: NaiveEvent) -> None:
        """Honour a decision now where its record is a dead letter, and later wherever it will be one."""
        assert event.data is not None
        data = event.data
        topic, partition, offset = data["letter_topic"], data["letter_partition"], data["letter_offset"]
        if data["letter_topic_id"] != self.topic_ids.get(topic, data["letter_topic_id"]):
            return
        value = None if data["value"] is None else data["value"].encode()
        self.decisions[topic, partition, offset] = (data["action"], value)
        lines = [
            line
            for line, waiting in self.held.items()
            for held in waiting
            if held.record.place == (topic, partition, offset) and held.status == "dead"
        ]
        touched = {
            held.record.place: self._category(held.record.place) for line in lines for held in self.held[line]
        }
        for line in lines:
            held = next(held for held in self.held[line] if held.record.offset == offset)
            if data["action"] == "discard":
                self.held[line].remove(held)
                self._outcome(held.record, line[0], "ignored")
            else:
                self._try_again(line[0], held, value if data["action"] == "edit" else held.value)
            self._release(line)
        for place, before in touched.items():
            after = self._category(place)
            if after != before:
                self.counters[place[:2]][self.counted[place]] -= 1
                self.counters[place[:2]][after] += 1
                self.counted[place] = after

    def _try_again(self, name: str, held: Held, value: bytes | None) -> None:
        """A dead letter that can be taken now waits for its turn, which may be at once."""
        held.value = value
        try:
            if name == ALL:
                event = self._read(held.record, value)
                if event is not None:
                    self._register(held.record, event)
            else:
                event = self._checked(held.record, self.catalog.entities[name], value)
        except Refused as refusal:
            held.reason, held.sequence = str(refusal), None
            return
        held.status, held.sequence = "parked", event.sequence if event else None
        self._outcome(held.record, name, "parked")

    def _release(self, line: tuple[str, str, int, str]) -> None:
        """Apply what waits in line, up to the next dead letter."""
        waiting = self.held[line]
        while waiting and waiting[0].status == "parked":
            held = waiting.pop(0)
            record = held.record
            event = self._read(record, held.value)
            if line[0] == ALL:
                del self.outcomes[record.place][ALL]
                if event is None:
                    self._delete_by_tombstone(record)
                elif self._folds(record.topic, event):
                    self._fold(record, event, held.value)
                else:
                    self._outcome(record, ALL, "ignored")
                continue
            entity = self.catalog.entities[line[0]]
            assert event is not None
            fold = self._fold_of(entity, event)
            done = fold is not None and not self._is_repeated(record, entity, fold, event)
            self._outcome(
                record, entity.name, self._change(record, entity, fold, event) if fold and done else "ignored"
            )
        if not waiting:
            self.held.pop(line, None)
