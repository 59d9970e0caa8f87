"""The whole projector as plain dictionaries, one record at a time: what the engine must come to.

It shares no code with the engine. Where the rules leave room, this is the reading taken:

- Refusals depend on the record and one entity alone: a refused record is a dead letter even behind another one,
  never parked. What cannot be read is one for every entity of the topic; what is not as its contract says, for
  those that fold an event of that name in whatever version; another key, digits beyond a column's, two elements
  of one key, an `add` without sequence or window, for the entity that finds it so.
- Whether an event is a repetition is asked once, when it is met, and it is remembered then, applied or parked.
  A dead letter is not remembered.
- A whole-state event supersedes all that is held before it.
- Decisions on a record are tried in their order, where and as long as it is refused: edit puts another value in
  its place there, discard ignores it there; what is settled stays so. So it does not matter whether a decision
  comes before or after its record. An edit is applied once, so it is no repetition, needs no sequence and changes
  none; and it registers no workflow.
- Releasing goes in the order of the log up to the next dead letter. An edited event that has something
  before it is parked, if it does not supersede that.
- Counters: a record counts by its worst outcome over the entities. Being superseded moves nothing; the records
  in line with what a decision resolves are counted anew, by their outcomes but for those superseded.
- A decision event counts as applied. A null value is a delete for the entities that take tombstones, and
  nothing for the others; where none does, it is refused.
- An event registers its workflow when it is met, if its envelope can be read and its record key is not too long,
  whatever its contract says of the rest.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from mesh_core.model.entity import EntityModel
from mesh_core.model.folds import Fold
from tests.engine.naive_events import NaiveEvent, Refused, read_event
from tests.engine.naive_rows import fits, folded_rows, key_of
from tests.engine.naive_state import Held, NaiveState, Record, is_whole, key_text, window
from tests.engine.naive_views import Tables

DECIDED = "mesh.dead_letter.decided.v1"


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
        self._take(record)
        self.counted[record.place] = self._category(record.place)
        counts[self.counted[record.place]] += 1

    def _take(self, record: Record) -> None:
        try:
            event = self._read(record, record.value)
        except Refused as refusal:
            self._register(record, refusal.envelope)
            for entity in self._concerned(record, refusal):
                self._refuse(record, entity, str(refusal))
            return
        if event is None:
            self._tombstone(record)
            return
        self._register(record, event)
        if event.type == DECIDED:
            self._outcome(record, "", "applied")
            self._decide(event)
            return
        for entity, fold in self._folds(record.topic, event):
            if problem := self._problem(record, entity, fold, event):
                self._refuse(record, entity, problem)
            elif self._is_repeated(record, entity, fold, event):
                self._outcome(record, entity.name, "ignored")
            else:
                self._remember(record, entity, fold, event)
                self._arrive(record, entity, fold, event, None)

    def _read(self, record: Record, value: bytes | None) -> NaiveEvent | None:
        """The event, None for a tombstone. Raises Refused for what no entity can take."""
        entities = self._entities(record.topic)
        tombstone = value is None and any(entity.tombstones for entity in entities)
        contracts = {c.type: c for c in self.catalog.contracts.values() if c.topic == record.topic}
        event = None if tombstone else read_event(value, contracts)
        if len(record.key or b"") > 512:
            raise Refused("key_too_long")
        return event

    def _concerned(self, record: Record, refusal: Refused) -> list[EntityModel]:
        """The entities for which a refused record is a dead letter."""
        entities = self._entities(record.topic)
        family = (refusal.type or "").rpartition(".v")[0]
        if refusal.type is None or family == DECIDED.rpartition(".v")[0]:
            return entities
        return [
            entity
            for entity in entities
            if any(fold.contract.type.rpartition(".v")[0] == family for fold in entity.folds)
        ]

    def _problem(
        self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent, edited: bool = False
    ) -> str | None:
        """Why one entity refuses an event that could be read, or None."""
        if key_text(key_of(fold, event, None)[: len(entity.record_key)]).encode() != record.key:
            return "key_mismatch"
        if problem := fits(entity, fold, event):
            return problem
        adds = [operation for operation in fold.operations if operation.kind == "add"]
        if not edited and event.sequence is None and any(operation.window is None for operation in adds):
            return "missing_sequence"
        return None

    def _refuse(self, record: Record, entity: EntityModel, reason: str) -> None:
        """A dead letter, unless what was decided about it settles it."""
        held = Held(record, "dead", reason)
        for action, value in self.decisions.get(record.place, []):
            if action == "discard":
                self._outcome(record, entity.name, "ignored")
                return
            if action == "edit" and self._edit(held, entity, value):
                fold, event = self._edited(record, entity, held.edit)
                if fold is None:
                    self._outcome(record, entity.name, "ignored")
                else:
                    self._arrive(record, entity, fold, event, held.edit)
                return
        self._hold(entity.name, held)

    def _edit(self, held: Held, entity: EntityModel, value: bytes | None) -> bool:
        """Put another value in the place of a dead letter; whether the entity can take that."""
        held.edit = value
        try:
            self._edited(held.record, entity, value)
        except Refused as refusal:
            held.reason = str(refusal)
            return False
        return True

    def _edited(
        self, record: Record, entity: EntityModel, value: bytes | None
    ) -> tuple[Fold | None, NaiveEvent]:
        event = self._read(record, value)
        if event is None:
            raise Refused("null_payload")
        fold = self._fold_of(entity, event)
        if fold is not None and (problem := self._problem(record, entity, fold, event, edited=True)):
            raise Refused(problem)
        return fold, event

    def _arrive(
        self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent, edit: bytes | None
    ) -> None:
        """An event that an entity can take: parked or applied."""
        if self.held.get((entity.name, *self._line(record))):
            if not is_whole(entity, fold):
                self._hold(entity.name, Held(record, "parked", "behind", edit))
                return
            self._supersede(entity.name, record)
        self._change(record, entity, fold, event)

    def _change(self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent) -> None:
        self.rows[entity.name], done = folded_rows(entity, fold, event, self.rows[entity.name])
        self._outcome(record, entity.name, "applied" if done else "ignored")

    def _is_repeated(self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent) -> bool:
        if event.sequence is not None:
            return event.sequence <= self.sequences.get((entity.name, record.key_text), event.sequence - 1)
        within = window(fold)
        seen = self.recent.get((entity.name, record.topic, record.partition, event.id))
        return within is not None and seen is not None and record.offset - seen <= within

    def _remember(self, record: Record, entity: EntityModel, fold: Fold, event: NaiveEvent) -> None:
        if event.sequence is not None:
            self.sequences[entity.name, record.key_text] = event.sequence
        elif window(fold) is not None:
            self.recent[entity.name, record.topic, record.partition, event.id] = record.offset

    def _tombstone(self, record: Record) -> None:
        for entity in self._entities(record.topic):
            if not entity.tombstones:
                continue
            key = self._parsed_key(entity, record)
            if key is None:
                self._refuse(record, entity, "key_mismatch")
                continue
            self._supersede(entity.name, record)
            rows = self.rows[entity.name]
            kept = {at: row for at, row in rows.items() if at[: len(entity.record_key)] != key}
            self._outcome(record, entity.name, "applied" if len(kept) < len(rows) else "ignored")
            self.rows[entity.name] = kept

    # --- decisions ----------------------------------------------------------------------------------------

    def _decide(self, event: NaiveEvent) -> None:
        """Honour a decision now where its record is a dead letter, and later wherever it will be one."""
        assert event.data is not None
        data = event.data
        topic, partition, offset = data["letter_topic"], data["letter_partition"], data["letter_offset"]
        if data["letter_topic_id"] != self.topic_ids.get(topic, data["letter_topic_id"]):
            return
        value = None if data["value"] is None else data["value"].encode()
        self.decisions.setdefault((topic, partition, offset), []).append((data["action"], value))
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
            elif data["action"] == "edit" and self._edit(held, self.catalog.entities[line[0]], value):
                held.status = "parked"
                self._outcome(held.record, line[0], "parked")
                self._supersede_before(line, held)
            self._release(line)
        for place, before in touched.items():
            after = self._category(place)
            if after != before:
                self.counters[place[:2]][self.counted[place]] -= 1
                self.counters[place[:2]][after] += 1
                self.counted[place] = after

    def _supersede_before(self, line: tuple[str, str, int, str], held: Held) -> None:
        """An edit supersedes what is held before its record, if it says all."""
        entity = self.catalog.entities[line[0]]
        fold, _ = self._edited(held.record, entity, held.edit)
        if fold is not None and is_whole(entity, fold):
            while self.held[line][0] is not held:
                del self.outcomes[self.held[line].pop(0).record.place][entity.name]

    def _release(self, line: tuple[str, str, int, str]) -> None:
        """Apply what waits in line, up to the next dead letter."""
        entity, waiting = self.catalog.entities[line[0]], self.held[line]
        while waiting and waiting[0].status == "parked":
            held = waiting.pop(0)
            event = self._read(held.record, held.record.value if held.edit is None else held.edit)
            assert event is not None
            fold = self._fold_of(entity, event)
            if fold is None:
                self._outcome(held.record, entity.name, "ignored")
            else:
                self._change(held.record, entity, fold, event)
        if not waiting:
            self.held.pop(line, None)
