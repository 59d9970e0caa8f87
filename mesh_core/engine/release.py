"""Decisions on dead letters: applying again what was held, in the order of the log.

A decision is an event on `mesh.events`. Its transaction locks the dead letter's own checkpoint too, so what
it releases is as exclusive as if the records had just been read. A decision counts only where its record is
refused, so it does not matter whether it comes before or after the record. An edit is applied once, in its
record's place: it is no repetition of anything, and registers no workflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from mesh_core.engine.compiled import CompiledFold
from mesh_core.engine.folding import Folding
from mesh_core.engine.intake import Batch
from mesh_core.engine.judging import Why
from mesh_core.engine.looking_up import Group
from mesh_core.engine.routing import Router, decision_in
from mesh_core.engine.verdicts import STATUS_OUTCOME, storable, worst
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.store import held
from mesh_core.store.checkpoints import Checkpoint, Counts
from mesh_core.store.held import HeldRow, Line, Place
from mesh_core.store.lookups import Decision


@dataclass
class Release:
    """What the decision in a batch may release: the lines in which its record is a dead letter.

    There is at most one decision a transaction. `others` are all rows of the records in these lines, of versions that
    count.
    """

    folding: Folding
    decision: Decision | None = None
    lines: dict[Line, list[HeldRow]] = field(default_factory=dict)
    others: dict[Place, list[HeldRow]] = field(default_factory=dict)

    def load(self, connection: psycopg.Connection[Any], locked: Mapping[TopicPartition, Checkpoint]) -> None:
        """Read the lines. The checkpoint of the letter must be locked."""
        if self.decision is None:
            return
        target, _ = self.decision.letter
        if target not in locked or locked[target].topic_id != self.decision.topic_id:
            return
        self.find(lambda place: held.rows_at(connection, place), lambda line: held.chain(connection, line))

    def find(
        self, rows_at: Callable[[Place], Sequence[HeldRow]], chain: Callable[[Line], list[HeldRow]]
    ) -> None:
        """Take the lines from these: what holds a record, by version, and all that is held in a line, in order."""
        if self.decision is None:
            return
        for row in rows_at(self.decision.letter):
            if row.status == "dead" and row.version_id in self.folding.rows:
                self.lines[row.line] = chain(row.line)
        for line in self.lines.values():
            for row in line:
                rows = rows_at(row.place)
                self.others[row.place] = [other for other in rows if other.version_id in self.folding.counted]

    def groups(self) -> list[Group]:
        """All that may be applied, for look-ups."""
        groups: list[Group] = []
        for (target, _, version), rows in self.lines.items():
            router = self.folding.judge_of[version].router
            keys, items = [row.key for row in rows], [self._read(row) for row in rows]
            if self.decision is not None and self.decision.action == "edit":
                keys.append(rows[0].key)
                items.append(router.intake.read(target.topic, self.decision.value))
            groups.append((router, target, keys, items))
        return groups

    def fold(self) -> None:
        """Carry the decision out where its record is a dead letter, and apply what it releases."""
        counted, held = self.folding.counted, self.folding.known.held
        for line, rows in sorted(self.lines.items()):
            assert self.decision is not None
            version = line[2]
            held.drop(line)
            at = next(n for n, row in enumerate(rows) if row.offset == self.decision.offset)
            if self.decision.action == "discard":
                discarded = rows.pop(at)
                self._count(discarded, "ignored")
            else:
                rows[at], supersedes = self._tried(rows[at])
                for row in rows[:at] if supersedes else ():
                    self._count(row, "ignored")
                rows = rows[at:] if supersedes else rows
            while rows and rows[0].status == "parked":
                row = rows.pop(0)
                self._count(row, self._released(row))
            for row in rows:
                if version in counted:
                    # Another line may have moved what the record counts under.
                    now = self.others[row.place][0]
                    row = replace(row, otherwise=now.otherwise, counted=now.counted)
                held.add(row)
            if version in counted and any(row.offset == self.decision.offset for row in rows):
                self._recount((line[0], self.decision.offset))

    def _tried(self, row: HeldRow) -> tuple[HeldRow, bool]:
        """The dead letter as the decision leaves it: waiting for its turn, or dead still.

        And whether it supersedes what is held before it, as it would have, had it been met with the decision known.
        """
        assert self.decision is not None
        if self.decision.action == "edit":
            row = replace(row, edited=self.decision.value)
        _, fold, why = self._judged(row)
        if why is not None:
            reason, detail = why
            return replace(row, reason=reason, detail=storable(detail), attempts=row.attempts + 1), False
        return replace(row, status="parked"), fold is not None and fold.whole

    def _judged(self, row: HeldRow) -> tuple[Any, CompiledFold | None, Why | None]:
        """The event that a row holds, its fold for the row's version, and why it is refused, if it is."""
        record, judge = row.record, self.folding.judge_of[row.version_id]
        if row.edited is not None:
            return judge.edited(record, row.edited, row.version_id)
        item = self._read(row)
        if (why := judge.refusal(record, item)) is not None:
            return item, None, why
        fold = judge.fold_of(record, item, row.version_id)
        return item, fold, judge.problem(record, item, fold) if fold is not None else None

    def _released(self, row: HeldRow) -> str:
        item, fold, _ = self._judged(row)
        return self.folding.change(row.record, item, fold) if fold is not None else "ignored"

    def _read(self, row: HeldRow) -> Any:
        intake = self.folding.judge_of[row.version_id].router.intake
        if row.edited is not None:
            return intake.read(row.topic, row.edited)
        at = (row.partition, row.offset, row.timestamp)
        return intake.read(row.topic, row.value, row.record.headers, row.key, at)

    def _count(self, row: HeldRow, outcome: str) -> None:
        """A version does not hold the record any more: count it anew."""
        if row.version_id not in self.folding.counted:
            return
        before = self.others[row.place]
        otherwise = worst([before[0].otherwise, outcome])
        kept = [other for other in before if other.version_id != row.version_id]
        self.others[row.place] = [replace(other, otherwise=otherwise) for other in kept]
        after = worst([otherwise, *(STATUS_OUTCOME[other.status] for other in kept)])
        self._move(row.place, before, after)

    def _recount(self, place: Place) -> None:
        """The decided record waits still: as a dead letter, or parked from now on."""
        before = self.others[place]
        now = {row.version_id: row for row in self.folding.known.held.at(place)}
        self.others[place] = [now.get(row.version_id, row) for row in before]
        outcomes = [before[0].otherwise, *(STATUS_OUTCOME[row.status] for row in self.others[place])]
        self._move(place, before, worst(outcomes))

    def _move(self, place: Place, before: Sequence[HeldRow], after: str) -> None:
        was = worst([before[0].otherwise, *(STATUS_OUTCOME[row.status] for row in before)])
        counted = before[0].counted
        if was != after:
            counts = self.folding.counts.setdefault(place[0], Counts())
            counts.add(counted, -1)
            counts.add(after)
            counted = after
        self.others[place] = [replace(row, counted=counted) for row in self.others[place]]
        for row in self.others[place]:
            self.folding.known.held.replace(row)


def decision_among(batches: Sequence[Batch], router: Router) -> Decision | None:
    """The decision among the events of `batches`, if there is one."""
    found = [
        decision
        for batch in batches
        if batch.partition.topic == MESH_TOPIC
        for offset, item in zip(batch.chunk.offsets, batch.items, strict=True)
        if (decision := decision_in(item, offset, router)) is not None
    ]
    assert len(found) <= 1, "each decision has a transaction of its own"
    return found[0] if found else None
