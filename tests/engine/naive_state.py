"""What the naive model remembers, and the plain questions it asks of declarations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, unquote
from uuid import UUID

from mesh_core.model.catalog import Catalog
from mesh_core.model.entity import EntityModel
from mesh_core.model.folds import Fold
from tests.engine.naive_events import NaiveEvent
from tests.engine.naive_rows import Row

WORST = ("ignored", "applied", "parked", "dead_lettered")
Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True)
class Record:
    """One record of the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def place(self) -> Place:
        return self.topic, self.partition, self.offset

    @property
    def key_text(self) -> str:
        return (self.key or b"").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


@dataclass
class Held:
    """An event held for an entity. `edit` is what an edit put in its place, if one did."""

    record: Record
    status: Literal["dead", "parked"]
    reason: str
    edit: bytes | None = None


class NaiveState:
    """Dictionaries of all that there is."""

    def __init__(self, catalog: Catalog, topic_ids: Mapping[str, str] | None = None) -> None:
        self.catalog = catalog
        self.topic_ids = topic_ids or {}
        self.rows: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in catalog.entities}
        self.sequences: dict[tuple[str, str], int] = {}
        self.recent: dict[tuple[str, str, int, str], int] = {}
        self.held: dict[tuple[str, str, int, str], list[Held]] = {}
        """By (entity, topic, partition, record key), in the order of the log."""
        self.counters: dict[tuple[str, int], Counter[str]] = {}
        self.index: dict[Place, tuple[UUID, str, str, str, str, datetime]] = {}
        self.decisions: dict[Place, list[tuple[str, bytes | None]]] = {}
        self.outcomes: dict[Place, dict[str, str]] = {}
        self.counted: dict[Place, str] = {}
        self.next_offset: dict[tuple[str, int], int] = {}

    def _entities(self, topic: str) -> list[EntityModel]:
        return [entity for entity in self.catalog.entities.values() if entity.topic == topic]

    def _folds(self, topic: str, event: NaiveEvent) -> list[tuple[EntityModel, Fold]]:
        found = [(entity, self._fold_of(entity, event)) for entity in self._entities(topic)]
        return [(entity, fold) for entity, fold in found if fold is not None]

    def _fold_of(self, entity: EntityModel, event: NaiveEvent) -> Fold | None:
        return next((fold for fold in entity.folds if fold.contract.type == event.type), None)

    def _line(self, record: Record) -> tuple[str, int, str]:
        return record.topic, record.partition, record.key_text

    def _outcome(self, record: Record, entity: str, outcome: str) -> None:
        self.outcomes[record.place][entity] = outcome

    def _category(self, place: Place) -> str:
        return max(self.outcomes[place].values(), key=WORST.index, default="ignored")

    def _register(self, record: Record, event: NaiveEvent | None) -> None:
        if event is None or event.workflowid is None or len(record.key or b"") > 512:
            return
        service, entity = [*event.type.split("."), ""][:2]
        self.index[record.place] = (
            event.workflowid, service, entity, record.key_text, event.type, event.time,
        )  # fmt: skip
        key = (event.workflowid, service, entity, record.key_text, record.topic)
        entries = self.rows["mesh.workflow_entry"]
        before = entries.get(key, {}).get("registered_at", event.time)
        names = self.catalog.entities["mesh.workflow_entry"].key
        entries[key] = {**dict(zip(names, key, strict=True)), "registered_at": min(before, event.time)}

    def _parsed_key(self, entity: EntityModel, record: Record) -> tuple[Any, ...] | None:
        """The record key's values, or None if it is not this entity's."""
        try:
            text = (record.key or b"").decode()
            parts = text.split(",") if len(entity.record_key) > 1 else [text]
            kinds = [entity.column(name).type.kind for name in entity.record_key]
            parse: dict[str, Any] = {"int": int, "uuid": UUID, "text": str}
            plain = parts if len(parts) == 1 else [unquote(part) for part in parts]
            values = tuple(parse[kind](part) for kind, part in zip(kinds, plain, strict=True))
        except ValueError:
            return None
        return values if key_text(values) == text else None

    def _hold(self, entity: str, held: Held) -> None:
        record = held.record
        waiting = self.held.setdefault((entity, *self._line(record)), [])
        waiting.append(held)
        waiting.sort(key=lambda held: held.record.offset)
        self._outcome(record, entity, "dead_lettered" if held.status == "dead" else "parked")

    def _supersede(self, entity: str, record: Record) -> None:
        for held in self.held.pop((entity, *self._line(record)), []):
            del self.outcomes[held.record.place][entity]


def key_text(values: tuple[Any, ...]) -> str:
    if len(values) == 1:
        return str(values[0])
    return ",".join(quote(str(value), safe="") for value in values)


def window(fold: Fold) -> int | None:
    windows = [operation.window for operation in fold.operations if operation.window is not None]
    return max(windows, default=None)


def is_whole(entity: EntityModel, fold: Fold) -> bool:
    """Whether the event says all there is to say of its row."""
    columns = {column.name for column in entity.columns if not column.key}
    set_by = {operation.column for operation in fold.operations if operation.kind == "set"}
    return fold.kind == "delete" or (fold.kind == "upsert" and set_by == columns)
