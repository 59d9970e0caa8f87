"""Decisions on dead letters: applying again what was held, in the order of the log.

A decision is an event on `mesh.events`. Its transaction locks the dead letter's own checkpoint too, so what
it releases is as exclusive as if the records had just been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from mesh_core.engine.folding import SEVERITY, Folding, Router, decision_in
from mesh_core.engine.intake import Batch
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.store import held, lookups
from mesh_core.store.checkpoints import Checkpoint, Counts
from mesh_core.store.held import ALL, HeldRow
from mesh_core.store.lookups import Decision

STATUS_OUTCOME = {"dead": "dead_lettered", "parked": "parked"}


@dataclass
class Release:
    """What the decisions of a batch may release: chains of held records, by (partition, record key, version)."""

    router: Router
    targets: set[TopicPartition] = field(default_factory=set)
    wanted: list[Decision] = field(default_factory=list)
    decisions: dict[tuple[TopicPartition, int], Decision] = field(default_factory=dict)
    chains: dict[tuple[TopicPartition, str, int], list[tuple[HeldRow, Any]]] = field(default_factory=dict)
    others: dict[tuple[TopicPartition, int], list[HeldRow]] = field(default_factory=dict)

    @property
    def items(self) -> list[tuple[TopicPartition, list[tuple[bytes | None, Any]]]]:
        """(key, item) of the records that may be applied, by partition, for look-ups."""
        return [
            (partition, [(row.key, item) for row, item in chain])
            for (partition, _, _), chain in self.chains.items()
        ]

    def load(self, connection: psycopg.Connection[Any], locked: Mapping[TopicPartition, Checkpoint]) -> None:
        """Read the chains. The targets' checkpoints must be locked."""
        for decision in self.wanted:
            target = TopicPartition(decision.topic, decision.partition)
            if target not in locked or locked[target].topic_id != decision.topic_id:
                continue
            for row in held.rows_at(connection, target, decision.offset):
                if row.version_id == ALL or any(
                    v.id == row.version_id for v in self.router.versions.values()
                ):
                    at = (target, row.record_key, row.version_id)
                    self.chains[at] = [
                        (found, None)
                        for found in held.chain(connection, target, row.record_key, row.version_id)
                    ]
        with connection.cursor() as cursor:
            for (target, key, version), chain in self.chains.items():
                first, last = chain[0][0].offset, chain[-1][0].offset
                found = lookups.decisions_within(cursor, {target: (locked[target].topic_id, first, last + 1)})
                self.decisions.update(found)
                for row, _ in chain:
                    self.others[target, row.offset] = held.rows_at(connection, target, row.offset)
                self.chains[target, key, version] = chain
        for decision in self.wanted:
            self.decisions[TopicPartition(decision.topic, decision.partition), decision.offset] = decision
        for at, chain in self.chains.items():
            self.chains[at] = [(row, self._read(at[0], row)) for row, _ in chain]

    def _read(self, target: TopicPartition, row: HeldRow) -> Any:
        decision = self.decisions.get((target, row.offset))
        edited = decision is not None and decision.action == "edit"
        value = decision.value if decision is not None and edited else row.value
        return self.router.intake.read(target.topic, value, () if edited else row.record.headers)

    def fold(self, folding: Folding) -> None:
        """Apply the chains from their heads until one is refused again, and move the counts."""
        outcomes: dict[tuple[TopicPartition, int], dict[int, str]] = {}
        now = {(TopicPartition(d.topic, d.partition), d.offset) for d in self.wanted}
        for (target, key, version), chain in sorted(self.chains.items()):
            folding.known.held.drop(target, key, version)
            blocked = False
            for row, item in chain:
                at = (target, row.offset)
                decision = self.decisions.get(at)
                stuck = (
                    row.status == "dead"
                    and at not in now
                    and (decision is None or decision.action == "retry")
                )
                if blocked or stuck:
                    blocked = True
                    folding.known.held.add(row)
                    continue
                only = None if version == ALL else {version}
                attempts = row.attempts + (row.status == "dead")
                outcome = folding.fold_record(row.record, item, only, attempts)
                outcomes.setdefault(at, {})[version] = outcome
                blocked = outcome == "dead_lettered"
        for at, found in outcomes.items():
            self._move(folding, at, found)

    def _move(self, folding: Folding, at: tuple[TopicPartition, int], found: Mapping[int, str]) -> None:
        """Count the record under its new worst outcome instead of its old one."""
        rows = self.others[at]
        before = max((STATUS_OUTCOME[row.status] for row in rows), key=SEVERITY.__getitem__)
        still = [STATUS_OUTCOME[row.status] for row in rows if row.version_id not in found]
        rest = [row.otherwise for row in rows]
        after = max([*found.values(), *still, *rest], key=SEVERITY.__getitem__)
        counts = folding.counts.setdefault(at[0], Counts())
        counts.add(before, -1)
        counts.add(after)
        done = max(
            (o for o in found.values() if o in ("applied", "ignored")),
            key=SEVERITY.__getitem__,
            default="ignored",
        )
        if done == "applied":
            for row in rows:
                if row.version_id not in found and row.otherwise != "applied":
                    folding.known.held.new.append(replace(row, otherwise="applied"))


def releases(batches: Sequence[Batch], router: Router) -> Release:
    """What the decisions among the events of `batches` point at; nothing is read or locked yet."""
    release = Release(router)
    for batch in batches:
        if batch.partition.topic == MESH_TOPIC:
            release.wanted += filter(None, (decision_in(item, router) for item in batch.items))
    release.targets = {TopicPartition(decision.topic, decision.partition) for decision in release.wanted}
    return release
