"""Whether a record is refused, by each entity that it concerns. Depends on that record and that entity alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh_core.contracts.refusals import Refusal
from mesh_core.engine.compiled import CompiledFold
from mesh_core.engine.intake import Tombstone
from mesh_core.engine.routing import DECIDED, Router
from mesh_core.model.event import family
from mesh_core.model.identifiers import MAX_KEY_BYTES
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.held import Place, Record

Why = tuple[str, str]
"""(reason, detail) of a refusal."""
Refused = Mapping[Place, Why]
"""Records that Postgres itself refused."""


@dataclass(frozen=True)
class Judge:
    """Judges records by the entities that take them."""

    router: Router
    refused: Refused

    def refusal(self, record: Record, item: Any) -> Why | None:
        """Why no entity can take the record, or None."""
        at = (record.partition, record.offset)
        if at in self.refused:
            return self.refused[at]
        if isinstance(item, Refusal):
            return item.reason, item.detail
        length = len(record.key or b"")
        if length > MAX_KEY_BYTES:
            return "key_too_long", f"The record key has {length} bytes; at most {MAX_KEY_BYTES} are taken."
        return None

    def concerned(self, record: Record, item: Any) -> Sequence[EntityVersion]:
        """The versions for which a record with a `refusal` is a dead letter.

        What is not as its contract says concerns those that take an event of that name, in whatever version.
        """
        versions = self.router.of_topic(record.partition.topic)
        if not isinstance(item, Refusal) or item.event_type is None:
            return versions
        named = family(item.event_type)
        if named == family(DECIDED):
            return versions  # no entity takes decisions, and none must be lost
        return [version for version in versions if named in self.router.families(version)]

    def problem(self, record: Record, item: Any, fold: CompiledFold, *, edited: bool = False) -> Why | None:
        """Why one entity refuses an event that could be read, or None."""
        name = fold.version.model.name
        try:
            expected = fold.record_key(fold.key(item))
        except ValueError as error:
            return "key_mismatch", f"The record key is no key of {name}: {error}."
        if expected.encode() != record.key:
            given = "missing" if record.key is None else repr(record.text_key)
            return "key_mismatch", f"The record key is {given}, but {name} has the key {expected!r}."
        if fold.check is not None and (detail := fold.check(item)):
            return "does_not_fit", f"{detail}."
        if fold.needs_sequence and item.sequence is None and not edited:
            return "missing_sequence", f"{name} adds, so the event must carry sequence."
        return None

    def folds(self, record: Record, item: Any) -> Sequence[CompiledFold]:
        """The folds of all entities that take the event."""
        route = self.router.by_struct[record.partition.topic].get(type(item))
        return route.folds if route is not None else ()

    def fold_of(self, record: Record, item: Any, version: int) -> CompiledFold | None:
        """The fold of one entity version that takes the event, if it has one."""
        return next((fold for fold in self.folds(record, item) if fold.version.id == version), None)

    def edited(
        self, record: Record, value: bytes | None, version: int
    ) -> tuple[Any, CompiledFold | None, Why | None]:
        """The event that an edit puts in a record's place, its fold for one entity, and why that refuses it."""
        item = self.router.intake.read(record.partition.topic, value)
        if isinstance(item, Tombstone):
            return item, None, ("null_payload", "The edit has no value.")
        if (why := self.refusal(record, item)) is not None:
            return item, None, why
        fold = self.fold_of(record, item, version)
        return item, fold, self.problem(record, item, fold, edited=True) if fold is not None else None
