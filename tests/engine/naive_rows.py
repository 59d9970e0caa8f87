"""What an event does to the rows of an entity, for the naive model: from all rows to all rows."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from mesh_core.model.entity import EntityModel
from mesh_core.model.folds import Fold, Source
from mesh_core.model.types import ColumnType
from tests.engine.naive_events import NaiveEvent, plain_json

Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]
EXACT = Context(prec=5000)


def folded_rows(entity: EntityModel, fold: Fold, event: NaiveEvent, rows: Rows) -> tuple[Rows, bool]:
    """The rows after the event, and whether it did anything."""
    rows = dict(rows)
    record_key = key_of(fold, event, None)[: len(entity.record_key)]
    own = [key for key in rows if key[: len(record_key)] == record_key]
    if fold.kind == "delete":
        for key in own:
            del rows[key]
        return rows, bool(own)
    if fold.each:
        for key in own:
            del rows[key]
        for element in elements(fold, event):
            key = key_of(fold, event, element)
            rows[key] = _changed(entity, fold, event, element, _new_row(entity, key))
        return rows, True
    key = key_of(fold, event, None)
    if key not in rows and fold.kind == "patch":
        return rows, False
    rows[key] = _changed(entity, fold, event, None, rows.get(key) or _new_row(entity, key))
    return rows, True


def fits(entity: EntityModel, fold: Fold, event: NaiveEvent) -> str | None:
    """Why the entity refuses the event, or None."""
    seen = set()
    for element in elements(fold, event) if fold.each else [None]:
        key = key_of(fold, event, element)
        if fold.each and key in seen:
            return "does_not_fit"
        seen.add(key)
        if fold.each and sum(len(str(part).encode()) for part in key[len(entity.record_key) :]) > 512:
            return "does_not_fit"
        for operation in fold.operations:
            kind = entity.column(operation.column).type
            value = _source(operation.source, event, element)
            if kind.precision is not None and value is not None and not _has_room(Decimal(value), kind):
                return "does_not_fit"
    return None


def _has_room(number: Decimal, kind: ColumnType) -> bool:
    scaled = EXACT.scaleb(number, kind.scale or 0)
    return scaled == scaled.to_integral_value(context=EXACT) and abs(scaled) < 10 ** (kind.precision or 0)


def elements(fold: Fold, event: NaiveEvent) -> list[Any]:
    """The elements that make a row each."""
    assert fold.each is not None
    return _at(event.data, fold.each) or []


def key_of(fold: Fold, event: NaiveEvent, element: Any) -> tuple[Any, ...]:
    """The key of the row; without an element only as far as the event alone says it."""
    return tuple(
        _source(source, event, element)
        for source in fold.keys
        if element is not None or source.scope != "element"
    )


def _new_row(entity: EntityModel, key: tuple[Any, ...]) -> Row:
    row: Row = dict(zip(entity.key, key, strict=True))
    for column in entity.columns:
        if not column.key:
            row[column.name] = _typed(column.default, column.type)
    return row


def _changed(entity: EntityModel, fold: Fold, event: NaiveEvent, element: Any, row: Row) -> Row:
    row = dict(row)
    for operation in fold.operations:
        value = _typed(_source(operation.source, event, element), entity.column(operation.column).type)
        before = row[operation.column]
        match operation.kind:
            case "set":
                row[operation.column] = value
            case "add":
                row[operation.column] = EXACT.add(before, value)
            case "max":
                row[operation.column] = value if before is None else max(before, value)
            case "min":
                row[operation.column] = value if before is None else min(before, value)
    return row


def _source(source: Source, event: NaiveEvent, element: Any) -> Any:
    match source.scope:
        case "data":
            return _at(event.data, source.value)
        case "element":
            return _at(element, source.value)
        case "envelope":
            return getattr(event, source.value)
        case _:
            return source.value


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = None if value is None else value[name]
    return value


def _typed(value: Any, kind: ColumnType) -> Any:
    """A value as its column holds it."""
    if value is None:
        return None
    match kind.kind:
        case "numeric":
            return Decimal(value)
        case "float":
            return float(value)
        case "json":
            return plain_json(value)
        case "timestamptz" if isinstance(value, str):
            return datetime.fromisoformat(value)
        case "date" if isinstance(value, str):
            return date.fromisoformat(value)
        case "uuid" if isinstance(value, str):
            return UUID(value)
    return value
