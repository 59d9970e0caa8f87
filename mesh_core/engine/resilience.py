"""Applying batches although Postgres may refuse some record of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import psycopg

from mesh_core.engine.errors import Unforeseen
from mesh_core.engine.folding import Folding
from mesh_core.engine.intake import Batch
from mesh_core.engine.judging import Refused
from mesh_core.engine.routing import decision_in
from mesh_core.engine.transaction import Applied, Applier
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.store.checkpoints import Counts
from mesh_core.store.faults import fault_of


def apply_resiliently(applier: Applier, batches: Sequence[Batch], ahead: Folding | None = None) -> Applied:
    """Apply batches, in as many transactions as it takes; `ahead` has what was folded of them before.

    A batch that Postgres refuses as bad data is halved until the record to blame stands alone; that becomes a
    dead letter. Decisions on dead letters each have a transaction of their own. Raises what is not bad data;
    transactions before it are committed then, so the caller asks the checkpoints where it stands. Raises Unforeseen
    where something has to be read again, not folded ahead.
    """
    positions: dict[TopicPartition, int] = {}
    counts: dict[TopicPartition, Counts] = {}
    for group in _groups(batches, applier):
        for done in _halving(applier, group, ahead):
            positions.update(done.positions)
            for partition, more in done.counts.items():
                counts.setdefault(partition, Counts()).include(more)
    return Applied(positions, counts)


def _groups(batches: Sequence[Batch], applier: Applier) -> list[list[Batch]]:
    """One transaction for all, but each decision alone, so that it sees what was held before it."""
    ordinary: list[Batch] = []
    alone: list[list[Batch]] = []
    for batch in batches:
        cuts = [
            n
            for n, item in enumerate(batch.items if batch.partition.topic == MESH_TOPIC else ())
            if decision_in(item, batch.chunk.offsets[n], applier.router) is not None
        ]
        if not cuts:
            ordinary.append(batch)
            continue
        edges = sorted({0, len(batch), *cuts, *(n + 1 for n in cuts)})
        alone += [[batch.part(first, end)] for first, end in pairwise(edges)]
    return ([ordinary] if ordinary else []) + alone


def _halving(applier: Applier, batches: list[Batch], ahead: Folding | None = None) -> list[Applied]:
    folded = [batch.partition for batch in batches if batch.folded]
    try:
        return [applier.apply(batches, ahead=ahead if folded else None)]
    except (psycopg.Error, UnicodeEncodeError) as error:
        if fault_of(error) != "data":
            raise
        if folded:
            applier.expect(folded)
            raise Unforeseen("Postgres refuses some record.") from error
        if len(batches) > 1:
            return [done for batch in batches for done in _halving(applier, [batch])]
        (batch,) = batches
        count = len(batch)
        if count > 1:
            middle = count // 2
            return _halving(applier, [batch.part(0, middle)]) + _halving(applier, [batch.part(middle, count)])
        if count == 0:
            raise
        state = getattr(error, "sqlstate", None) or "none"
        cause = (
            str(error).split("\n")[0].replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
        )
        detail = f"Postgres refused it (SQLSTATE {state}): {cause}."
        refused: Refused = {(batch.partition, batch.chunk.offsets[0]): ("refused_by_postgres", detail)}
        return [applier.apply(batches, refused)]
