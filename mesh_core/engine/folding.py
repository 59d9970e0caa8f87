"""Folds the records of a batch, in the order of each partition, to rows, held events and counts.

Pure but for what was looked up before: the same records after the same state give the same result, however
they are split into batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh_core.contracts.refusals import Refusal, Unknown
from mesh_core.engine.compiled import CompiledFold, Key, Route, parse_key
from mesh_core.engine.intake import Batch, Tombstone
from mesh_core.engine.judging import Judge
from mesh_core.engine.routing import Router, decision_in
from mesh_core.engine.rows import EntityRows
from mesh_core.engine.verdicts import BEHIND, Facts, Verdict
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.identifiers import MAX_KEY_BYTES
from mesh_core.store.checkpoints import Counts
from mesh_core.store.entity_writes import Shape
from mesh_core.store.held import ALL, Held, Line, Record
from mesh_core.store.lookups import Decision, IndexedEvent, RecentIds
from mesh_core.store.tables import ENTRY

ENTRY_SHAPE = Shape("upsert", (("registered_at", "min"),))


@dataclass
class Known:
    """What was looked up for a batch."""

    held: Held
    topic_ids: Mapping[str, str]
    decisions: Mapping[tuple[TopicPartition, int], Decision]
    sequences: dict[tuple[int, str], int]
    recent: RecentIds
    refused: Mapping[tuple[TopicPartition, int], tuple[str, str]]
    """(reason, detail) of records that Postgres itself refused."""
    all_versions: int = ALL
    """The version id under which records are held for all entities of their topic; a build has one of its own."""


class Folding:
    """The state of one batch while its records are folded."""

    def __init__(self, router: Router, known: Known) -> None:
        self.router, self.known = router, known
        self.judge = Judge(router, known.refused)
        self.rows = {version.id: EntityRows(version) for version in router.versions.values()}
        self.counts: dict[TopicPartition, Counts] = {}
        self.sequences: dict[tuple[int, str], int] = {}
        self.recent: RecentIds = {}
        self.index: list[IndexedEvent] = []
        self.decided: list[Decision] = []
        self._entry = router.versions.get(ENTRY)

    def fold(self, batch: Batch) -> None:
        """Fold all records of a batch."""
        chunk, partition = batch.chunk, batch.partition
        counts = self.counts.setdefault(partition, Counts())
        by_struct = self.router.by_struct[partition.topic]
        plain = self._is_plain(partition)
        first, count = 0, len(batch.items)
        while first < count:
            if plain:
                # Where nothing is held, decided or refused, a run of whole-state events needs no more than its rows.
                taken = self._fold_run(batch, first, by_struct.get(type(batch.items[first])))
                counts.applied += taken
                first += taken
                if first == count:
                    break
            headers = chunk.headers[first] if chunk.headers else ()
            record = Record(
                partition,
                chunk.offsets[first],
                chunk.timestamps[first],
                chunk.keys[first],
                chunk.values[first],
                headers,
            )
            counts.add(self.fold_record(record, batch.items[first]))
            plain = plain and partition not in self.known.held.partitions
            first += 1
        counts.consumed += count

    def _is_plain(self, partition: TopicPartition) -> bool:
        """Whether what becomes of an event of this partition depends on it alone."""
        decided = any(at == partition for at, _ in self.known.decisions)
        return partition not in self.known.held.partitions and not decided and not self.known.refused

    def _fold_run(self, batch: Batch, first: int, route: Route | None) -> int:
        """Fold the whole-state events of one type from `first` on; how many there were.

        Of each key only the last one counts. All the same each is decoded, and its key compared with the record's.
        """
        if route is None or not route.simple:
            return 0
        fold, kind, items, keys = route.folds[0], type(batch.items[first]), batch.items, batch.chunk.keys
        last: dict[bytes, Any] = {}
        known: dict[bytes, Key] = {}
        read_key, n = fold.key, first
        for n in range(first, len(items)):
            item, raw = items[n], keys[n]
            if (
                type(item) is not kind
                or item.sequence is not None
                or item.workflowid is not None
                or raw is None
            ):
                break
            key = read_key(item)
            if known.get(raw) != key:
                if len(raw) > MAX_KEY_BYTES or fold.record_key(key).encode() != raw:
                    break
                known[raw] = key
            last[raw] = item
        else:
            n += 1
        rows, number = self.rows[fold.version.id], batch.partition.partition
        for raw, item in last.items():
            rows.upsert(known[raw], fold.shape, fold.values(item), number, True)
        return n - first

    def fold_record(self, record: Record, item: Any) -> str:
        """Fold a record that is met for the first time; what it came to, by its worst outcome."""
        verdict = Verdict(record)
        self._meet(verdict, item)
        return self.settle(verdict)

    def settle(self, verdict: Verdict) -> str:
        """Hold the record where it is to be held; the outcome that it counts under."""
        outcome = verdict.worst
        for row in verdict.holds(self.known.topic_ids[verdict.record.partition.topic], outcome):
            self.known.held.add(row)
        return outcome

    def _meet(self, verdict: Verdict, item: Any) -> None:
        record, edited = verdict.record, None
        every = self.known.all_versions
        refusal = self.judge.refusal(record, item)
        decision = self.known.decisions.get((record.partition, record.offset))
        if refusal is not None and decision is not None and decision.action == "discard":
            verdict.outcomes[every] = "ignored"
            return
        if refusal is not None and decision is not None and decision.action == "edit":
            edited = decision.value
            item = self.router.intake.read(record.partition.topic, edited)
            refusal = self.judge.refusal(record, item)
        if refusal is not None:
            verdict.hold(every, "dead", refusal, self._facts(record, item), edited)
            return
        if isinstance(item, Tombstone):
            self._meet_tombstone(verdict)
            return
        self.register(record, item)
        decided = decision_in(item, self.router) if record.partition.topic == MESH_TOPIC else None
        if decided is not None:
            self.decided.append(decided)
            verdict.outcomes[every] = "applied"
        elif self._waits_for_all(record, item):
            verdict.hold(every, "parked", BEHIND, self._facts(record, item), edited)
        else:
            self.fold_all(verdict, item, edited)

    def _waits_for_all(self, record: Record, item: Any) -> bool:
        """Whether the event is parked behind one that could not be read. A newer whole-state event supersedes it."""
        held, folds = self.known.held, self.judge.folds(record, item)
        line = (record.partition, record.text_key, self.known.all_versions)
        if not folds or line not in held.lines or all(self.is_repeated(record, item, fold) for fold in folds):
            return False
        whole = self.router.by_struct[record.partition.topic][type(item)].supersedes_all
        if (
            not whole
            or not self._is_newer(item, line)
            or any(self.judge.problem(item, fold) for fold in folds)
        ):
            return True
        held.drop(line)
        return False

    def fold_all(self, verdict: Verdict, item: Any, edited: bytes | None) -> None:
        """Fold an event into every entity that takes it, each on its own."""
        record = verdict.record
        value = record.value if edited is None else edited
        for fold in self.judge.folds(record, item):
            version = fold.version.id
            problem = self.judge.problem(item, fold)
            decision = self.known.decisions.get((record.partition, record.offset))
            if problem is None:
                self._arrive(verdict, item, fold, edited)
            elif decision is not None and decision.action == "discard":
                verdict.outcomes[version] = "ignored"
            elif decision is not None and decision.action == "edit" and decision.value != value:
                self._fold_edited(verdict, fold, decision.value)
            else:
                verdict.hold(version, "dead", problem, self._facts(record, item), edited)

    def _fold_edited(self, verdict: Verdict, refused: CompiledFold, value: bytes | None) -> None:
        """Fold what an edit says in place of an event that one entity refused."""
        record, version = verdict.record, refused.version.id
        item, problem = self.judge.checked(record, value, version)
        if problem is not None:
            verdict.hold(version, "dead", problem, self._facts(record, item), value)
            return
        fold = self.judge.fold_of(record, item, version)
        if fold is None:
            verdict.outcomes[version] = "ignored"
        else:
            self._arrive(verdict, item, fold, value)

    def _arrive(self, verdict: Verdict, item: Any, fold: CompiledFold, edited: bytes | None) -> None:
        """An event that an entity can take: ignored, parked or applied."""
        record, version = verdict.record, fold.version.id
        line = (record.partition, record.text_key, version)
        if self.is_repeated(record, item, fold):
            verdict.outcomes[version] = "ignored"
            return
        if line in self.known.held.lines:
            if not fold.whole or not self._is_newer(item, line):
                verdict.hold(version, "parked", BEHIND, self._facts(record, item), edited)
                return
            self.known.held.drop(line)
        verdict.outcomes[version] = self.change(record, item, fold)

    def change(self, record: Record, item: Any, fold: CompiledFold) -> str:
        """Fold an event into one entity, now: `applied`, or `ignored` if there was nothing to change."""
        version = fold.version.id
        if item.sequence is not None:
            self.sequences[version, record.text_key] = item.sequence
        elif fold.window is not None:
            self.recent[version, record.partition, item.id] = record.offset
        return "applied" if self._apply(record, item, fold) else "ignored"

    def is_repeated(self, record: Record, item: Any, fold: CompiledFold) -> bool:
        """Whether the entity has had this event, by its sequence, or by its id within the window."""
        version = fold.version.id
        if item.sequence is not None:
            at = (version, record.text_key)
            last = self.sequences.get(at, self.known.sequences.get(at))
            return last is not None and item.sequence <= last
        if fold.window is None:
            return False
        seen = (version, record.partition, item.id)
        offset = self.recent.get(seen, self.known.recent.get(seen))
        return offset is not None and record.offset - offset <= fold.window

    def _is_newer(self, item: Any, line: Line) -> bool:
        greatest = self.known.held.lines[line]
        return item.sequence is None or greatest is None or item.sequence > greatest

    def _apply(self, record: Record, item: Any, fold: CompiledFold) -> bool:
        rows, number = self.rows[fold.version.id], record.partition.partition
        key = fold.key(item)
        if fold.fold.kind == "delete":
            return rows.delete(key, number)
        if fold.elements is not None and fold.element_key is not None:
            found = {
                key + fold.element_key(element): fold.values((item, element))
                for element in fold.elements(item) or ()
            }
            rows.replace(key, found, fold.shape, number)
            return True
        if fold.fold.kind == "patch":
            return rows.patch(key, fold.shape, fold.values(item), number)
        rows.upsert(key, fold.shape, fold.values(item), number, fold.whole)
        return True

    def _meet_tombstone(self, verdict: Verdict) -> None:
        record, held = verdict.record, self.known.held
        versions = self.router.of_topic(record.partition.topic)
        line = (record.partition, record.text_key, self.known.all_versions)
        if line in held.lines:
            if not all(version.model.tombstones for version in versions):
                verdict.hold(self.known.all_versions, "parked", BEHIND, Facts(None, None, None), None)
                return
            held.drop(line)
        self.delete_by_tombstone(verdict)

    def delete_by_tombstone(self, verdict: Verdict) -> None:
        """Delete the key for every entity that takes tombstones."""
        record = verdict.record
        for version in self.router.of_topic(record.partition.topic):
            if version.model.tombstones:
                line = (record.partition, record.text_key, version.id)
                if line in self.known.held.lines:
                    self.known.held.drop(line)
                key = parse_key(version.model, record.text_key)
                there = self.rows[version.id].delete(key, record.partition.partition)
                verdict.outcomes[version.id] = "applied" if there else "ignored"

    def register(self, record: Record, item: Any) -> None:
        """Enter the event's own entry in the lookup table and the index, if it names a workflow."""
        if self._entry is None or item.workflowid is None:
            return
        kind = item.type if isinstance(item, Unknown) else self._type_of(record, item)
        service, _, rest = kind.partition(".")
        entity = rest.partition(".")[0]
        key = record.text_key
        self.rows[self._entry.id].upsert(
            (item.workflowid, service, entity, key, record.partition.topic),
            ENTRY_SHAPE,
            (item.time,),
            record.partition.partition,
        )
        self.index.append(
            IndexedEvent(
                record.partition, record.offset, item.workflowid, service, entity, key, kind, item.time
            )
        )

    def _type_of(self, record: Record, item: Any) -> str:
        return self.router.by_struct[record.partition.topic][type(item)].event_type

    def _facts(self, record: Record, item: Any) -> Facts:
        if isinstance(item, Refusal):
            return Facts(item.event_type, item.event_id, None)
        if item is None or isinstance(item, Tombstone):
            return Facts(None, None, None)
        kind = item.type if isinstance(item, Unknown) else self._type_of(record, item)
        return Facts(kind, item.id, item.sequence)
