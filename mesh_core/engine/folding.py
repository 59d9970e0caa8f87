"""Folds the records of a batch, in the order of each partition, to rows, held events and counts.

Pure but for what was looked up before: the same records after the same state give the same result, however
they are split into batches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mesh_core.contracts.refusals import Refusal
from mesh_core.engine.compiled import CompiledFold, Key, Route
from mesh_core.engine.intake import Batch, Tombstone
from mesh_core.engine.judging import Judge, Refused, Why
from mesh_core.engine.routing import Router, decision_in
from mesh_core.engine.rows import EntityRows
from mesh_core.engine.verdicts import BEHIND, NOBODY, Facts, Verdict
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.identifiers import MAX_KEY_BYTES
from mesh_core.store.checkpoints import Counts
from mesh_core.store.entity_writes import Shape
from mesh_core.store.held import Held, Place, Record
from mesh_core.store.lookups import Decision, IndexedEvent, RecentIds
from mesh_core.store.tables import ENTRY

ENTRY_SHAPE = Shape("upsert", (("registered_at", "min"),))


@dataclass
class Known:
    """What was looked up for a batch."""

    held: Held
    topic_ids: Mapping[str, str]
    decisions: dict[Place, list[Decision]]
    """In the order in which they were made."""
    sequences: dict[tuple[int, str], int]
    recent: RecentIds
    refused: Refused


Readings = Sequence[tuple[Judge, Batch]]
"""A batch as each router reads it that takes its topic, the first router's first."""


class Folding:
    """The state of a transaction while its batches are folded, for the versions of all routers."""

    def __init__(self, routers: Sequence[Router], known: Known, counted: Collection[int]) -> None:
        self.known, self.counted = known, counted
        self.judges = [Judge(router, known.refused) for router in routers]
        self.judge_of = {id_: judge for judge in self.judges for id_ in judge.router.versions}
        self.rows = {
            id_: EntityRows(version) for router in routers for id_, version in router.versions.items()
        }
        self.counts: dict[TopicPartition, Counts] = {}
        self.sequences: dict[tuple[int, str], int] = {}
        self.recent: RecentIds = {}
        self.index: list[IndexedEvent] = []
        self.decided: list[Decision] = []
        self._entries = [id_ for id_, rows in self.rows.items() if rows.version.model.name == ENTRY]

    def read(self, batch: Batch) -> Readings:
        """What a batch says to each router: the first one has decoded it, the others decode anew."""
        first, *others = self.judges
        topic = batch.partition.topic
        return [
            (first, batch),
            *(
                (judge, judge.router.intake.batch(batch.chunk))
                for judge in others
                if topic in judge.router.intake.decoders
            ),
        ]

    def fold_ahead(self, batch: Batch) -> None:
        """Fold as much of a batch as can be before anything is known of it; `batch.folded` says how much.

        That is for nothing if it turns out that its partition is not plain. Raises ForeignPartition.
        """
        if batch.partition.topic == MESH_TOPIC or batch.partition in self.known.held.partitions:
            return
        readings, counts, first = self.read(batch), Counts(), 0
        while first < len(batch):
            if (end := self._fold_run(readings, first, counts)) == first:
                break
            first = end
        counts.consumed = batch.folded = first
        self.counts.setdefault(batch.partition, Counts()).include(counts)
        if first == len(batch):
            batch.let_go()

    def fold(self, readings: Readings) -> None:
        """Fold all records of a batch that were not folded ahead."""
        _, batch = readings[0]
        chunk, partition = batch.chunk, batch.partition
        counts = self.counts.setdefault(partition, Counts())
        plain = self.is_plain(partition)
        first, count = batch.folded, len(batch)
        counts.consumed += count - first
        while first < count:
            if plain:
                # Where nothing is held, decided or refused, a run of whole-state events needs no more than its rows.
                first = self._fold_run(readings, first, counts)
                if first == count:
                    break
            headers = chunk.headers[first] if chunk.headers else ()
            record = Record(
                partition,
                chunk.offsets[first],
                chunk.timestamps[first],
                batch.keys[first],
                chunk.values[first],
                headers,
            )
            items = [(judge, read.items[first], read.keys[first]) for judge, read in readings]
            counts.add(self._fold_record(record, items))
            plain = plain and partition not in self.known.held.partitions
            first += 1

    def is_plain(self, partition: TopicPartition) -> bool:
        """Whether what becomes of an event of this partition depends on it alone."""
        decided = any(at == partition for at, _ in self.known.decisions)
        return partition not in self.known.held.partitions and not decided and not self.known.refused

    def _fold_run(self, readings: Readings, first: int, counts: Counts) -> int:
        """Fold the whole-state events of one type from `first` on; where the next one is that is something else.

        Of each key only the last one counts. All the same each is decoded, and its key compared with the record's.
        """
        _, batch = readings[0]
        end, runs = len(batch), list[tuple[Batch, Route, dict[bytes, Key]]]()
        for judge, read in readings:
            kind = type(read.items[first])
            route = judge.router.by_struct[batch.partition.topic].get(kind)
            if kind is Refusal or (route is not None and route.folds and not route.simple):
                return first
            if route is None or not route.folds:  # nobody takes it, as long as it is not refused
                end = next((n for n in range(first, end) if type(read.items[n]) is not kind), end)
                continue
            keys: dict[bytes, Key] = {}
            end = _end_of_run(read, first, end, route.folds[0], keys)
            runs.append((read, route, keys))
        if not runs:
            return first
        number = batch.partition.partition
        for read, route, keys in runs:
            last: dict[Any, Any] = dict(zip(read.keys[first:end], read.items[first:end], strict=True))
            for fold in route.folds:
                values = zip(map(keys.__getitem__, last), map(fold.values, last.values()), strict=True)
                self.rows[fold.version.id].replace_all(dict(values), fold.shape, number)
        serves = any(fold.version.id in self.counted for _, route, _ in runs for fold in route.folds)
        counts.add("applied" if serves else "ignored", end - first)
        return end

    def _fold_record(self, record: Record, items: Sequence[tuple[Judge, Any, bytes | None]]) -> str:
        """Fold a record that is met for the first time; what it came to, by its worst outcome.

        `items` are what each router reads it as, under which key.
        """
        verdict = Verdict(record, self.counted)
        _, item, _ = items[0]
        self._register(record, item.envelope if isinstance(item, Refusal) else item)
        for judge, item, key in items:
            self._meet(verdict, record if key == record.key else replace(record, key=key), judge, item)
        return self.settle(verdict)

    def settle(self, verdict: Verdict) -> str:
        """Hold the record where it is to be held; the outcome that it counts under."""
        outcome = verdict.worst
        for row in verdict.holds(self.known.topic_ids[verdict.record.partition.topic], outcome):
            self.known.held.add(row)
        return outcome

    def _meet(self, verdict: Verdict, record: Record, judge: Judge, item: Any) -> None:
        if (why := judge.refusal(record, item)) is not None:
            for version in judge.concerned(record, item):
                self._refuse(verdict, record, item, version.id, why)
            return
        decided = (
            decision_in(item, record.offset, judge.router) if record.partition.topic == MESH_TOPIC else None
        )
        if decided is not None:
            self.decided.append(decided)
            verdict.outcomes[NOBODY] = "applied"
        for fold in judge.folds(record, item):
            if (why := judge.problem(record, item, fold)) is not None:
                self._refuse(verdict, record, item, fold.version.id, why)
            elif self._is_repeated(record, item, fold):
                verdict.outcomes[fold.version.id] = "ignored"
            else:
                self._arrive(verdict, record, item, fold, None)

    def _refuse(self, verdict: Verdict, record: Record, item: Any, version: int, why: Why) -> None:
        """A dead letter, unless one of the decisions on it settles it: they are tried in their order."""
        edited = None
        for decision in self.known.decisions.get((record.partition, record.offset), ()):
            if decision.action == "discard":
                verdict.outcomes[version] = "ignored"
                return
            if decision.action == "retry":
                continue  # nothing has changed
            item, fold, again = self.judge_of[version].edited(record, decision.value, version)
            if again is None:
                if fold is None:
                    verdict.outcomes[version] = "ignored"
                else:
                    self._arrive(verdict, record, item, fold, decision.value)
                return
            why, edited = again, decision.value
        verdict.hold(record, version, "dead", why, _facts(item), edited)

    def _arrive(
        self, verdict: Verdict, record: Record, item: Any, fold: CompiledFold, edited: bytes | None
    ) -> None:
        """An event that an entity can take: parked or applied."""
        version = fold.version.id
        line = (record.partition, record.text_key, version)
        if line in self.known.held.lines:
            if not fold.whole:
                verdict.hold(record, version, "parked", BEHIND, _facts(item), edited)
                return
            self.known.held.drop(line)
        verdict.outcomes[version] = self.change(record, item, fold)

    def _is_repeated(self, record: Record, item: Any, fold: CompiledFold) -> bool:
        """Whether the entity has met this event before, by its sequence, or by its id within the window.

        Asked once a record, which is remembered then, applied or parked: what is decided later must not matter.
        """
        version = fold.version.id
        if item.sequence is not None:
            at = (version, record.text_key)
            last = self.sequences.get(at, self.known.sequences.get(at))
            if last is not None and item.sequence <= last:
                return True
            self.sequences[at] = item.sequence
        elif fold.window is not None:
            seen = (version, record.partition, item.id)
            offset = self.recent.get(seen, self.known.recent.get(seen))
            if offset is not None and record.offset - offset <= fold.window:
                return True
            self.recent[seen] = record.offset
        return False

    def change(self, record: Record, item: Any, fold: CompiledFold) -> str:
        """Fold an event into one entity, now: `applied`, or `ignored` if there was nothing to change."""
        return "applied" if self._apply(record, item, fold) else "ignored"

    def _apply(self, record: Record, item: Any, fold: CompiledFold) -> bool:
        rows, number = self.rows[fold.version.id], record.partition.partition
        key = fold.key(item)
        if fold.shape.kind == "delete":
            return rows.delete(key, number)
        if fold.elements is not None and fold.element_key is not None:
            found = {
                key + fold.element_key(element): fold.values((item, element))
                for element in fold.elements(item) or ()
            }
            rows.replace(key, found, fold.shape, number)
            return True
        if fold.shape.kind == "patch":
            return rows.patch(key, fold.shape, fold.values(item), number)
        rows.upsert(key, fold.shape, fold.values(item), number, fold.whole)
        return True

    def _register(self, record: Record, envelope: Any) -> None:
        """Enter the event's own entry in the lookup table and the index, if it names a workflow.

        Whatever its contract says of the payload: contracts change, and what entries there are does not.
        """
        if envelope is None or envelope.workflowid is None or not self._entries:
            return
        if len(record.key or b"") > MAX_KEY_BYTES or (record.partition, record.offset) in self.known.refused:
            return
        service, _, rest = envelope.type.partition(".")
        entity = rest.partition(".")[0]
        key = record.text_key
        entry = (envelope.workflowid, service, entity, key, record.partition.topic)
        for version in self._entries:
            self.rows[version].upsert(entry, ENTRY_SHAPE, (envelope.time,), record.partition.partition)
        self.index.append(
            IndexedEvent(
                record.partition,
                record.offset,
                envelope.workflowid,
                service,
                entity,
                key,
                envelope.type,
                envelope.time,
            )
        )


def _end_of_run(batch: Batch, first: int, end: int, fold: CompiledFold, known: dict[bytes, Key]) -> int:
    """Up to where events are of the type of the first one, and plain; their keys are put into `known`."""
    items, keys = batch.items, batch.keys
    kind, read_key = type(items[first]), fold.key
    for n in range(first, end):
        item, raw = items[n], keys[n]
        if type(item) is not kind or item.sequence is not None or item.workflowid is not None or raw is None:
            return n
        key = read_key(item)
        if known.get(raw) != key:
            if len(raw) > MAX_KEY_BYTES or fold.record_key(key).encode() != raw:
                return n
            known[raw] = key
    return end


def _facts(item: Any) -> Facts:
    """What is known of a record that is held."""
    if isinstance(item, Refusal):
        return Facts(item.event_type, item.event_id)
    return Facts(None, None) if isinstance(item, Tombstone) else Facts(item.type, item.id)
