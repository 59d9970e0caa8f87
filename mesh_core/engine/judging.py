"""Whether a record is refused, for all entities or for one. Depends on that record alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh_core.contracts.refusals import Refusal
from mesh_core.engine.compiled import CompiledFold, parse_key
from mesh_core.engine.intake import Tombstone
from mesh_core.engine.routing import Router
from mesh_core.model.identifiers import MAX_KEY_BYTES
from mesh_core.store.held import Place, Record

Refused = Mapping[Place, tuple[str, str]]
"""(reason, detail) of records that Postgres itself refused."""


@dataclass(frozen=True)
class Judge:
    """Judges records by the entities that take them."""

    router: Router
    refused: Refused

    def refusal(self, record: Record, item: Any) -> tuple[str, str] | None:
        """(reason, detail) why the record is refused for all entities, or None; depends on it alone."""
        at = (record.partition, record.offset)
        if at in self.refused:
            return self.refused[at]
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
        for fold in self.folds(record, item):
            expected = fold.record_key(fold.key(item))
            if record.key is None or expected.encode() != key:
                given = "missing" if record.key is None else repr(record.text_key)
                return (
                    "key_mismatch",
                    f"The record key is {given}, but {fold.version.model.name} has the key {expected!r}.",
                )
        return None

    def problem(self, item: Any, fold: CompiledFold) -> tuple[str, str] | None:
        """(reason, detail) why one entity refuses an event that its contract accepts, or None."""
        if fold.check is not None and (detail := fold.check(item)):
            return "does_not_fit", f"{detail}."
        if fold.needs_sequence and item.sequence is None:
            return "missing_sequence", f"{fold.version.model.name} adds, so the event must carry sequence."
        return None

    def folds(self, record: Record, item: Any) -> Sequence[CompiledFold]:
        """The folds of all entities that take the event."""
        route = self.router.by_struct[record.partition.topic].get(type(item))
        return route.folds if route is not None else ()

    def fold_of(self, record: Record, item: Any, version: int) -> CompiledFold | None:
        """The fold of one entity version that takes the event, if it has one."""
        return next((fold for fold in self.folds(record, item) if fold.version.id == version), None)

    def checked(
        self, record: Record, value: bytes | None, version: int
    ) -> tuple[Any, tuple[str, str] | None]:
        """The event that an edit or a retry puts to one entity, and why it is refused, if it is."""
        item = self.router.intake.read(
            record.partition.topic, value, () if value != record.value else record.headers
        )
        if isinstance(item, Tombstone):
            return item, ("null_payload", "The record has no value.")
        problem = self.refusal(record, item)
        fold = None if problem else self.fold_of(record, item, version)
        return item, problem or (self.problem(item, fold) if fold is not None else None)
