"""Folds the records of a batch, in the order of each partition, to rows, held events and counts.

Pure but for what was looked up before: the same records after the same state give the same result, however
they are split into batches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh_core.contracts.refusals import Refusal, Unknown
from mesh_core.engine.compiled import CompiledFold, Route, parse_key, routes
from mesh_core.engine.intake import Batch, Intake, Tombstone
from mesh_core.engine.rows import EntityRows
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC, DeadLetterDecided
from mesh_core.model.identifiers import MAX_KEY_BYTES, key_text
from mesh_core.store.checkpoints import Counts
from mesh_core.store.entity_writes import EntityVersion, Shape
from mesh_core.store.held import ALL, Held, HeldRow, Record
from mesh_core.store.lookups import Decision, IndexedEvent, RecentIds
from mesh_core.store.tables import ENTRY

SEVERITY = {"ignored": 0, "applied": 1, "parked": 2, "dead_lettered": 3}
DECIDED = DeadLetterDecided.type
ENTRY_SHAPE = Shape("upsert", (("registered_at", "min"),))


@dataclass
class Router:
    """Where the events of every topic go, for one set of entity versions."""

    versions: Mapping[str, EntityVersion]
    intake: Intake
    by_struct: dict[str, dict[type, Route]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for topic in self.intake.decoders:
            known = routes(self.versions.values(), topic)
            self.by_struct[topic] = {
                struct: known.get(event_type, Route(event_type, (), False, False))
                for struct, event_type in self.intake.struct_types(topic).items()
            }

    def of_topic(self, topic: str) -> list[EntityVersion]:
        return [version for version in self.versions.values() if version.model.topic == topic]


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
        number = partition.partition
        # Where nothing is held, decided or refused, most events need no more than their rows.
        plain = (
            partition not in self.known.held.partitions
            and not any(at == partition for at, _ in self.known.decisions)
            and not self.known.refused
        )
        applied = 0
        for n, item in enumerate(batch.items):
            route = by_struct.get(type(item))
            if (
                plain
                and route is not None
                and route.simple
                and item.sequence is None
                and item.workflowid is None
            ):
                key = chunk.keys[n]
                if (
                    key is not None
                    and len(key) <= MAX_KEY_BYTES
                    and self._fold_simple(route, item, key, number)
                ):
                    applied += 1
                    continue
            headers = chunk.headers[n] if chunk.headers else ()
            record = Record(
                partition, chunk.offsets[n], chunk.timestamps[n], chunk.keys[n], chunk.values[n], headers
            )
            counts.add(self.fold_record(record, item))
            plain = plain and partition not in self.known.held.partitions
        counts.applied += applied
        counts.consumed += len(batch.items)

    def _fold_simple(self, route: Route, item: Any, record_key: bytes, number: int) -> bool:
        """Fold an event of upserts that cannot fail; False if the record key is not the entity's."""
        keys = []
        for fold in route.folds:
            key = fold.key(item)
            if (str(key[0]) if fold.single else key_text(key)).encode() != record_key:
                return False
            keys.append(key)
        for fold, key in zip(route.folds, keys, strict=True):
            self.rows[fold.version.id].upsert(key, fold.shape, fold.values(item), number, fold.whole)
        return bool(keys)

    def fold_record(
        self, record: Record, item: Any, only: Collection[int] | None = None, attempts: int = 1
    ) -> str:
        """Fold one record, for all versions or for `only` some; what it came to, by its worst outcome."""
        decision = self.known.decisions.get((record.partition, record.offset))
        if decision is not None and decision.action == "discard":
            return "ignored"
        if decision is not None and decision.action == "edit":
            item = self.router.intake.read(record.partition.topic, decision.value)
        route = self.router.by_struct[record.partition.topic].get(type(item))
        refusal = self._refusal(record, item, route)
        if refusal is not None:
            self._hold(record, item, self.known.all_versions, "dead", *refusal, "ignored", attempts)
            return "dead_lettered"
        if isinstance(item, Tombstone):
            return self._fold_tombstone(record, only)
        if self._held_for_all(record, route):
            self._register(record, item)
            self._hold(
                record,
                item,
                self.known.all_versions,
                "parked",
                "behind",
                "An earlier event of this key is a dead letter.",
                "ignored",
            )
            return "parked"
        self._register(record, item)
        if route is not None and route.event_type == DECIDED:
            decided = decision_in(item, self.router)
            assert decided is not None
            self.decided.append(decided)
            return "applied"
        outcomes: list[tuple[str, CompiledFold, tuple[str, str]]] = []
        for fold in route.folds if route else ():
            if only is None or fold.version.id in only:
                outcome, why = self._fold_one(record, item, fold)
                outcomes.append((outcome, fold, why))
        rest = max(
            (o for o, _, _ in outcomes if o in ("applied", "ignored")),
            key=SEVERITY.__getitem__,
            default="ignored",
        )
        for outcome, fold, why in outcomes:
            if outcome in ("dead_lettered", "parked"):
                status = "dead" if outcome == "dead_lettered" else "parked"
                self._hold(record, item, fold.version.id, status, *why, rest, attempts)
        return max((outcome for outcome, _, _ in outcomes), key=SEVERITY.__getitem__, default="ignored")

    def _refusal(self, record: Record, item: Any, route: Route | None) -> tuple[str, str] | None:
        """Why the record is refused for all entities; depends on it alone."""
        at = (record.partition, record.offset)
        if at in self.known.refused:
            return self.known.refused[at]
        if isinstance(item, Refusal):
            return item.reason, item.detail
        key = record.key or b""
        if len(key) > MAX_KEY_BYTES:
            return "key_too_long", f"The record key has {len(key)} bytes; at most {MAX_KEY_BYTES} are taken."
        if isinstance(item, Tombstone):
            for version in self.router.of_topic(record.partition.topic):
                if version.model.tombstones:
                    try:
                        parse_key(version.model, key.decode())
                    except ValueError as error:
                        return "key_mismatch", f"The record key is no key of {version.model.name}: {error}."
            return None
        for fold in route.folds if route else ():
            expected = fold.record_key(fold.key(item))
            if record.key is None or expected.encode() != key:
                given = "missing" if record.key is None else repr(record.text_key)
                return (
                    "key_mismatch",
                    f"The record key is {given}, but {fold.version.model.name} has the key {expected!r}.",
                )
        return None

    def _held_for_all(self, record: Record, route: Route | None) -> bool:
        """Whether the record waits behind one that could not be read. A whole-state event supersedes it."""
        held = self.known.held
        if (
            route is None
            or not route.folds
            or not held.has(record.partition, record.text_key, self.known.all_versions)
        ):
            return False
        if not route.supersedes_all:
            return True
        held.drop(record.partition, record.text_key, self.known.all_versions)
        return False

    def _fold_one(self, record: Record, item: Any, fold: CompiledFold) -> tuple[str, tuple[str, str]]:
        version, text = fold.version.id, record.text_key
        name = fold.version.model.name
        sequence = item.sequence
        if fold.check is not None and (problem := fold.check(item)):
            return "dead_lettered", ("does_not_fit", f"{problem}.")
        if fold.needs_sequence and sequence is None:
            return "dead_lettered", ("missing_sequence", f"{name} adds, so the event must carry sequence.")
        if sequence is not None and sequence <= self._last_sequence(version, text):
            return "ignored", ("", "")
        if fold.window is not None and sequence is None and self._seen(record, item.id, fold):
            return "ignored", ("", "")
        if self.known.held.has(record.partition, text, version):
            if not fold.whole:
                return "parked", ("behind", "An earlier event of this key is a dead letter.")
            self.known.held.drop(record.partition, text, version)
        if sequence is not None:
            self.sequences[version, text] = sequence
        return ("applied" if self._apply(record, item, fold) else "ignored"), ("", "")

    def _apply(self, record: Record, item: Any, fold: CompiledFold) -> bool:
        rows, number = self.rows[fold.version.id], record.partition.partition
        key = fold.key(item)
        if fold.window is not None:
            self.recent[fold.version.id, record.partition, item.id] = record.offset
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

    def _fold_tombstone(self, record: Record, only: Collection[int] | None) -> str:
        outcome = "ignored"
        held, text = self.known.held, record.text_key
        versions = self.router.of_topic(record.partition.topic)
        if held.has(record.partition, text, self.known.all_versions):
            if not all(version.model.tombstones for version in versions):
                self._hold(
                    record,
                    None,
                    self.known.all_versions,
                    "parked",
                    "behind",
                    "An earlier event of this key is a dead letter.",
                    outcome,
                )
                return "parked"
            held.drop(record.partition, text, self.known.all_versions)
        for version in versions:
            if version.model.tombstones and (only is None or version.id in only):
                if held.has(record.partition, text, version.id):
                    held.drop(record.partition, text, version.id)
                if self.rows[version.id].delete(parse_key(version.model, text), record.partition.partition):
                    outcome = "applied"
        return outcome

    def _last_sequence(self, version: int, record_key: str) -> int:
        at = (version, record_key)
        found = self.sequences.get(at)
        return found if found is not None else self.known.sequences.get(at, -(2**63))

    def _seen(self, record: Record, event_id: str, fold: CompiledFold) -> bool:
        at = (fold.version.id, record.partition, event_id)
        offset = self.recent.get(at, self.known.recent.get(at))
        return offset is not None and record.offset - offset <= (fold.window or 0)

    def _register(self, record: Record, item: Any) -> None:
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

    def _hold(
        self,
        record: Record,
        item: Any,
        version: int,
        status: Any,
        reason: str,
        detail: str,
        rest: str,
        attempts: int = 1,
    ) -> None:
        known_type = item.event_type if isinstance(item, Refusal) else None
        event_id = item.event_id if isinstance(item, Refusal) else getattr(item, "id", None)
        if known_type is None and type(item) in self.router.by_struct[record.partition.topic]:
            known_type = self._type_of(record, item)
        self.known.held.add(
            HeldRow(
                record.partition.topic,
                record.partition.partition,
                record.offset,
                version,
                self.known.topic_ids[record.partition.topic],
                status,
                record.text_key,
                reason,
                detail.replace("\x00", "\\x00"),
                record.key,
                record.value,
                [(name, value.decode("latin-1")) for name, value in record.headers],
                record.timestamp,
                None if known_type is None else known_type.replace("\x00", ""),
                None if event_id is None else event_id.replace("\x00", ""),
                attempts,
                rest,
            )
        )


def decision_in(item: Any, router: Router) -> Decision | None:
    """The decision on a dead letter that an event of mesh.events carries, if it carries one."""
    route = router.by_struct[MESH_TOPIC].get(type(item))
    if route is None or route.event_type != DECIDED:
        return None
    data = item.data
    value = None if data.value is None else data.value.encode()
    return Decision(
        data.letter_topic,
        data.letter_topic_id,
        data.letter_partition,
        data.letter_offset,
        data.action,
        value,
        item.time,
    )
