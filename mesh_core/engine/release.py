"""Decisions on dead letters: applying again what was held, in the order of the log.

A decision is an event on `mesh.events`. Its transaction locks the dead letter's own checkpoint too, so what
it releases is as exclusive as if the records had just been read. A decision counts only where its record is
refused, so it does not matter whether it comes before or after the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from mesh_core.engine.folding import Folding
from mesh_core.engine.intake import Batch, Tombstone
from mesh_core.engine.routing import Router, decision_in
from mesh_core.engine.verdicts import STATUS_OUTCOME, Verdict, worst
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.store import held, lookups
from mesh_core.store.checkpoints import Checkpoint, Counts
from mesh_core.store.held import ALL, HeldRow, Line, Place
from mesh_core.store.lookups import Decision


@dataclass
class Release:
    """What the decision in a batch may release: the lines in which its record is a dead letter.

    There is at most one decision a transaction. `others` are all rows of the records in these lines.
    """

    router: Router
    decision: Decision | None = None
    lines: dict[Line, list[HeldRow]] = field(default_factory=dict)
    decisions: dict[Place, Decision] = field(default_factory=dict)
    others: dict[Place, list[HeldRow]] = field(default_factory=dict)

    @property
    def targets(self) -> set[TopicPartition]:
        """Partitions whose effects the decision may touch."""
        return {TopicPartition(self.decision.topic, self.decision.partition)} if self.decision else set()

    def load(self, connection: psycopg.Connection[Any], locked: Mapping[TopicPartition, Checkpoint]) -> None:
        """Read the lines. The targets' checkpoints must be locked."""
        if self.decision is None:
            return
        target = TopicPartition(self.decision.topic, self.decision.partition)
        if target not in locked or locked[target].topic_id != self.decision.topic_id:
            return
        known = {ALL, *(version.id for version in self.router.versions.values())}
        for row in held.rows_at(connection, (target, self.decision.offset)):
            if row.status == "dead" and row.version_id in known:
                self.lines[row.line] = held.chain(connection, row.line)
        rows = [row for line in self.lines.values() for row in line]
        if not rows:
            return
        with connection.cursor() as cursor:
            offsets = [row.offset for row in rows]
            ranges = {target: (locked[target].topic_id, min(offsets), max(offsets) + 1)}
            self.decisions = lookups.decisions_within(cursor, ranges)
        self.decisions[target, self.decision.offset] = self.decision
        for row in rows:
            self.others[row.place] = held.rows_at(connection, row.place)

    def items(self) -> list[tuple[TopicPartition, list[bytes | None], list[Any]]]:
        """(partition, record keys, events) of all that may be applied, for look-ups."""
        groups = []
        for (target, _, _), rows in self.lines.items():
            keys, items = [row.key for row in rows], [self._read(row) for row in rows]
            for row in rows:
                decision = self.decisions.get(row.place)
                if decision is not None and decision.action == "edit":
                    keys.append(row.key)
                    items.append(self.router.intake.read(target.topic, decision.value))
            groups.append((target, keys, items))
        return groups

    def fold(self, folding: Folding) -> None:
        """Carry the decision out where its record is a dead letter, and apply what it releases."""
        assert self.decision is not None
        for line, rows in sorted(self.lines.items()):
            folding.known.held.drop(line)
            at = next(n for n, row in enumerate(rows) if row.offset == self.decision.offset)
            if self.decision.action == "discard":
                discarded = rows.pop(at)
                self._count(folding, Verdict(discarded.record, {line[2]: "ignored"}), line[2])
            else:
                rows[at] = self._tried(folding, rows[at])
            while rows and rows[0].status == "parked":
                row = rows.pop(0)
                # Held anew where it must be before the next one is looked at, which may have to wait behind it.
                self._count(folding, self._released(folding, row), line[2])
            for row in rows:
                now = self.others[row.place][0]  # another line may have moved what the record counts under
                folding.known.held.add(replace(row, otherwise=now.otherwise, counted=now.counted))
            if any(row.offset == self.decision.offset for row in rows):
                self._recount(folding, (line[0], self.decision.offset))

    def _tried(self, folding: Folding, row: HeldRow) -> HeldRow:
        """The dead letter as the decision leaves it: waiting for its turn, or dead still."""
        assert self.decision is not None
        if self.decision.action == "edit":
            row = replace(row, edited=self.decision.value)
        record = row.record
        if row.version_id == ALL:
            item = self._read(row)
            problem = folding.judge.refusal(record, item)
        else:
            item, problem = folding.judge.checked(record, _value(row), row.version_id)
        if problem is not None:
            reason, detail = problem
            return replace(row, reason=reason, detail=detail, attempts=row.attempts + 1, sequence=None)
        if row.version_id == ALL and not isinstance(item, Tombstone):
            folding.register(record, item)
        return replace(row, status="parked", sequence=getattr(item, "sequence", None))

    def _released(self, folding: Folding, row: HeldRow) -> Verdict:
        record, item = row.record, self._read(row)
        verdict = Verdict(record)
        if row.version_id == ALL:
            if isinstance(item, Tombstone):
                folding.delete_by_tombstone(verdict)
            else:
                folding.fold_all(verdict, item, row.edited)
            return verdict
        fold = folding.judge.fold_of(record, item, row.version_id)
        if fold is None or folding.is_repeated(record, item, fold):
            verdict.outcomes[row.version_id] = "ignored"
        else:
            verdict.outcomes[row.version_id] = folding.change(record, item, fold)
        return verdict

    def _read(self, row: HeldRow) -> Any:
        headers = row.record.headers if row.edited is None else ()
        return self.router.intake.read(row.topic, _value(row), headers)

    def _count(self, folding: Folding, verdict: Verdict, version: int) -> None:
        """Hold the record where it is to be held now, and count it anew."""
        place = (verdict.record.partition, verdict.record.offset)
        before = self.others[place]
        kept = [row for row in before if row.version_id != version]
        otherwise = worst([before[0].otherwise, verdict.otherwise])
        for row in verdict.holds(before[0].topic_id, before[0].counted):
            folding.known.held.add(row)
            kept.append(row)
        self.others[place] = [replace(row, otherwise=otherwise) for row in kept]
        self._move(folding, place, before, worst([otherwise, *(STATUS_OUTCOME[row.status] for row in kept)]))

    def _recount(self, folding: Folding, place: Place) -> None:
        """The decided record waits still: as a dead letter, or parked from now on."""
        before = self.others[place]
        now = {row.version_id: row for row in folding.known.held.at(place)}
        self.others[place] = [now.get(row.version_id, row) for row in before]
        outcomes = [before[0].otherwise, *(STATUS_OUTCOME[row.status] for row in self.others[place])]
        self._move(folding, place, before, worst(outcomes))

    def _move(self, folding: Folding, place: Place, before: Sequence[HeldRow], after: str) -> None:
        was = worst([before[0].otherwise, *(STATUS_OUTCOME[row.status] for row in before)])
        counted = before[0].counted
        if was != after:
            counts = folding.counts.setdefault(place[0], Counts())
            counts.add(counted, -1)
            counts.add(after)
            counted = after
        self.others[place] = [replace(row, counted=counted) for row in self.others[place]]
        for row in self.others[place]:
            folding.known.held.replace(row)


def _value(row: HeldRow) -> bytes | None:
    return row.value if row.edited is None else row.edited


def releases(batches: Sequence[Batch], router: Router) -> Release:
    """The decision among the events of `batches`, if there is one; nothing is read or locked yet."""
    found = [
        decision
        for batch in batches
        if batch.partition.topic == MESH_TOPIC
        for item in batch.items
        if (decision := decision_in(item, router)) is not None
    ]
    assert len(found) <= 1, "each decision has a transaction of its own"
    return Release(router, found[0] if found else None)
