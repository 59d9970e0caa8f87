"""What the records of a batch need to know of before it: rows that are there, last sequences, recent ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from mesh_core.engine.compiled import Key
from mesh_core.engine.folding import Folding
from mesh_core.engine.routing import Router
from mesh_core.log.position import TopicPartition
from mesh_core.store import lookups
from mesh_core.store.held import text_of_key

Group = tuple[Router, TopicPartition, Sequence[bytes | None], Sequence[Any]]
"""Record keys and events of one partition, as a router reads them, for which things are looked up."""


def look_up(
    cursor: psycopg.Cursor[Any], folding: Folding, groups: Sequence[Group], *, remembered: bool = False
) -> None:
    """Presence of rows, last sequences and recent ids, for the records that need them.

    Where sequences and ids are `remembered`, what the folding knows of them is all there is.
    """
    rows: dict[int, set[Key]] = {}
    sequenced: dict[int, set[str]] = {}
    windowed: dict[int, set[str]] = {}
    for router, partition, keys_, items in groups:
        by_struct = router.by_struct[partition.topic]
        asking = {
            kind
            for kind in set(map(type, items))
            if (route := by_struct.get(kind))
            and any(fold.needs_presence or fold.window is not None for fold in route.folds)
        }
        if not asking and not any(map(_is_sequenced, items)):
            continue
        for raw, item in zip(keys_, items, strict=True):
            kind = type(item)
            route = by_struct.get(kind)
            if route is not None and item.sequence is not None:
                for fold in route.folds:
                    sequenced.setdefault(fold.version.id, set()).add(text_of_key(raw))
            if route is None or kind not in asking:
                continue
            for fold in route.folds:
                if fold.window is not None:
                    windowed.setdefault(fold.version.id, set()).add(item.id)
                if fold.needs_presence:
                    try:
                        rows.setdefault(fold.version.id, set()).add(fold.key(item))
                    except ValueError:
                        continue  # a tombstone of no key, which folding refuses
    for id_, keys in rows.items():
        if folding.rows[id_].blind:
            continue
        version = folding.rows[id_].version
        for length in {len(key) for key in keys}:
            some = [key for key in keys if len(key) == length]
            found = lookups.present_keys(cursor, version, some, version.model.key[:length])
            folding.rows[id_].present.update(found)
    if remembered:
        return
    for id_, record_keys in sequenced.items():
        folding.known.sequences.update(lookups.last_sequences(cursor, [id_], record_keys))
    for id_, event_ids in windowed.items():
        partitions = [partition for _, partition, _, _ in groups]
        folding.known.recent.update(lookups.recent_ids(cursor, [id_], partitions, event_ids))


def _is_sequenced(item: Any) -> bool:
    return getattr(item, "sequence", None) is not None
