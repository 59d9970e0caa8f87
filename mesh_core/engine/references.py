"""Which rows of others an event leads to: the record keys that it gives the columns of an edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mesh_core.engine.compiled import CompiledFold, Key, Values
from mesh_core.model.identifiers import key_text
from mesh_core.model.types import constant_value
from mesh_core.store.entity_writes import EntityVersion


class References:
    """The record keys of other rows that some columns of an entity's rows lead to, as events say.

    `unforeseeable`: the columns may come to values that no event says together.
    """

    def __init__(self, version: EntityVersion, columns: Sequence[str]) -> None:
        model = version.model
        self._version, self._columns = version, columns
        self._defaults = {
            name: constant_value(model.column(name).type.kind, model.column(name).default) for name in columns
        }
        self._ways: dict[CompiledFold, list[tuple[str, Any]] | None] = {}
        free = {name for name in columns if name not in model.key}
        self.unforeseeable = False
        for fold in model.folds:
            given = {each.column: each.kind for each in fold.operations if each.column in free}
            partly = len(free) > 1 and (0 < len(given) < len(free) or set(given.values()) - {"set"})
            if fold.kind != "delete" and (partly or "add" in given.values()):
                self.unforeseeable = True

    def texts(self, fold: CompiledFold, item: Any) -> Iterator[str]:
        """The record keys that an event leads to; none where it leaves the columns as they are."""
        if fold not in self._ways:
            self._ways[fold] = self._ways_of(fold)
        ways = self._ways[fold]
        if ways is None:
            return
        for key, values in _rows(fold, item):
            sides = {"key": key, "values": values}
            parts = [where if side == "default" else sides[side][where] for side, where in ways]
            if None not in parts:
                yield key_text(parts)

    def _ways_of(self, fold: CompiledFold) -> list[tuple[str, Any]] | None:
        if fold.shape.kind == "delete":
            return None
        keys = list(self._version.model.key)
        given = [name for name, _ in fold.shape.operations]
        ways: list[tuple[str, Any]] = []
        for name in self._columns:
            if name in keys:
                ways.append(("key", keys.index(name)))
            elif name in given:
                ways.append(("values", given.index(name)))
            elif fold.shape.kind == "patch":
                return None
            else:
                ways.append(("default", self._defaults[name]))
        return ways


def _rows(fold: CompiledFold, item: Any) -> Iterator[tuple[Key, Values]]:
    """(key, values) of the rows that an event says something of."""
    key = fold.key(item)
    if fold.elements is None or fold.element_key is None:
        yield key, fold.values(item)
        return
    for element in fold.elements(item) or ():
        yield key + fold.element_key(element), fold.values((item, element))
