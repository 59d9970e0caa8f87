"""Checks folds against their entity and turns them into plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mesh_core.model.errors import DeclarationError
from mesh_core.model.event import Contract, EventField
from mesh_core.model.folds import (
    ENVELOPE_FIELDS,
    Fold,
    FoldDeclaration,
    Operation,
    OperationDeclaration,
    Source,
    source_of,
)
from mesh_core.model.types import NUMBERS, ColumnType, FieldType, constant_value
from mesh_core.model.upcasts import with_older

if TYPE_CHECKING:
    from mesh_core.model.entity import EntityColumn


def bind_folds(
    entity: str, service: str, columns: tuple[EntityColumn, ...], declared: Sequence[FoldDeclaration]
) -> tuple[tuple[EntityColumn, ...], tuple[Fold, ...]]:
    """The columns (with what folds demand of them) and the folds.

    Raises DeclarationError naming class and field.
    """
    if not declared:
        raise DeclarationError(
            f"{entity}: no folds, so nothing would ever fill it.", remedy="folds = upsert(SomeEvent)"
        )
    for fold in declared:
        if not getattr(fold.event, "type", ""):
            raise DeclarationError(
                f"{entity}: {fold.event.__name__} has no type.", remedy='Declare it with type="…".'
            )
    topics = {fold.event.topic for fold in declared}
    if len(topics) > 1 or {fold.event.service for fold in declared} != {service}:
        foreign = next((fold.event.foreign for fold in declared if fold.event.foreign), None)
        one = f"one topic with events of {service}" if foreign else f"{service}.events"
        raise DeclarationError(
            f"{entity}: its events are of {', '.join(sorted(topics))}, but an entity of {service} is fed by {one} only.",
            remedy="Make one entity a service and join them in a view.",
        )
    seen = [fold.event.type for fold in declared]
    if repeated := {kind for kind in seen if seen.count(kind) > 1}:
        raise DeclarationError(f"{entity}: {', '.join(sorted(repeated))} is folded twice.")
    explicit = frozenset(seen)
    folds = tuple(each for fold in declared for each in _with_older(entity, columns, fold, explicit))
    if repeated := {
        fold.contract.type for fold in folds if sum(f.contract.type == fold.contract.type for f in folds) > 1
    }:
        raise DeclarationError(
            f"{entity}: {', '.join(sorted(repeated))} is upcast to two events that it folds."
        )
    leading = {_leading(entity, fold) for fold in folds if fold.each}
    if len(leading) > 1:
        raise DeclarationError(f"{entity}: its each folds disagree on the record key.")
    record_key = next(iter(leading), sum(column.key for column in columns))
    for bound in folds:
        if bound.kind == "delete" and len(bound.keys) != record_key:
            raise DeclarationError(
                f"{entity}: delete({bound.contract.type}) does not name the whole record key.",
                remedy="Name the key's fields, for example order_id=Event.order.",
            )
    added = {op.column for fold in folds for op in fold.operations if op.kind == "add"}
    columns = tuple(
        replace(
            column,
            type=replace(column.type, kind="numeric", precision=None, scale=None),
            default=column.default or "0",
        )
        if column.name in added
        else column
        for column in columns
    )
    _check_mixed(entity, columns, folds)
    _check_columns_set(entity, columns, folds)
    return columns, folds


def _with_older(
    entity: str, columns: tuple[EntityColumn, ...], fold: FoldDeclaration, explicit: frozenset[str]
) -> Iterator[Fold]:
    bound = _bind(entity, columns, fold)
    kinds = {column.name: column.type for column in columns}
    keys = [column.name for column in columns if column.key]
    for each in with_older(fold.event, bound, explicit):
        if each is not bound:
            if each.contract.topic != bound.contract.topic:
                raise DeclarationError(
                    f"{entity}: {each.contract.type} is on another topic than its newer contract."
                )
            where = f"{entity}: {fold.kind}({fold.event.__name__}) of {each.contract.type}"
            held = each.contract.field_at(each.each) if each.each else None
            element = held.item if held is not None else None
            for name, source in zip(keys, each.keys, strict=False):
                _check_type(f"{where}, column {name}", kinds[name], source, each.contract, element, key=True)
            for operation in each.operations:
                here = f"{where}, column {operation.column}"
                strict = operation.kind != "set"
                _check_type(
                    here, kinds[operation.column], operation.source, each.contract, element, key=strict
                )
        yield each


def _leading(entity: str, fold: Fold) -> int:
    scopes = [source.scope for source in fold.keys]
    count = scopes.index("element") if "element" in scopes else len(scopes)
    if count == 0 or "data" in scopes[count:]:
        raise DeclarationError(
            f"{entity}: the key of each must start with the record key and go on with the element's."
        )
    if count == len(scopes):
        raise DeclarationError(
            f"{entity}: all elements of one event would have the same key.",
            remedy="Add a Key column that the element has.",
        )
    return count


def _bind(entity: str, columns: tuple[EntityColumn, ...], fold: FoldDeclaration) -> Fold:
    contract = fold.event.contract
    where = f"{entity}: {fold.kind}({fold.event.__name__})"
    each, element = _each(where, fold, contract)
    names = {column.name for column in columns}
    if unknown := set(fold.values) - names:
        raise DeclarationError(f"{where}: {sorted(unknown)[0]!r} is not a column of {entity}.")
    keys: list[Source] = []
    operations: list[Operation] = []
    automatic = fold.kind == "upsert" or (
        fold.kind == "patch" and not set(fold.values) - {c.name for c in columns if c.key}
    )
    for column in columns:
        here = f"{where}, column {column.name}"
        declared = fold.values.get(column.name, _same_name(column.name, contract, element))
        operation = (
            declared if isinstance(declared, OperationDeclaration) else OperationDeclaration("set", declared)
        )
        if declared is MISSING:
            if column.key and fold.kind == "delete":
                continue
            if column.key:
                raise DeclarationError(
                    f"{here}: the event has no field of that name.",
                    remedy=f"Say where it is: {column.name}={fold.event.__name__}.….",
                )
            continue
        source = operation.value if isinstance(operation.value, Source) else source_of(operation.value)
        if (
            isinstance(operation.value, EventField)
            and source.scope == "data"
            and operation.value.owner is not fold.event
        ):
            raise DeclarationError(f"{here}: {operation.value.owner.__name__} is another event.")
        if column.key:
            _check_type(here, column.type, source, contract, element, key=True)
            keys.append(source)
        elif fold.kind != "delete" and (automatic or column.name in fold.values):
            if operation.kind != "set" and column.type.kind not in NUMBERS | {"text", "timestamptz", "date"}:
                raise DeclarationError(f"{here}: {operation.kind} does not work on {column.type.kind}.")
            if operation.kind == "add" and column.type.kind not in ("int", "numeric"):
                raise DeclarationError(f"{here}: add takes whole numbers or Decimals.")
            _check_type(here, column.type, source, contract, element, key=operation.kind != "set")
            operations.append(Operation(column.name, operation.kind, source, operation.window))
    key_count = sum(column.key for column in columns)
    if len(keys) < key_count and fold.kind != "delete":
        raise DeclarationError(
            f"{where}: the event does not say which row it means.",
            remedy="Name the key's fields, for example order_id=Event.order.",
        )
    if fold.kind == "patch" and not operations:
        raise DeclarationError(f"{where}: it changes no column.")
    return Fold(fold.kind, contract, tuple(keys), tuple(operations), each)


class _Missing:
    pass


MISSING = _Missing()


def _same_name(name: str, contract: Contract, element: FieldType | None) -> Source | _Missing:
    if element is not None and element.field(name) is not None:
        return Source("element", name)
    return Source("data", name) if contract.field_at(name) is not None else MISSING


def _each(where: str, fold: FoldDeclaration, contract: Contract) -> tuple[str | None, FieldType | None]:
    if fold.each is None:
        return None, None
    if not isinstance(fold.each, EventField):
        raise DeclarationError(f"{where}: each={fold.each!r} is not a list field of the event.")
    found = contract.field_at(fold.each.path) if fold.each.owner is fold.event else None
    if found is None or found.kind != "list" or found.item is None or found.item.kind != "object":
        raise DeclarationError(
            f"{where}: each={fold.each.path} is not a list of models in {fold.event.__name__}."
        )
    return fold.each.path, found.item


def _check_type(
    here: str, column: ColumnType, source: Source, contract: Contract, element: FieldType | None, *, key: bool
) -> None:
    """Raises DeclarationError unless every value of `source` fits `column`."""
    match source.scope:
        case "constant":
            kinds: dict[type, str] = {
                bool: "bool",
                int: "int",
                str: "text",
                float: "float",
                type(None): column.kind,
                list: "json",
                dict: "json",
            }
            kind, nullable = kinds[type(source.value)], source.value is None
            if kind == "text" and column.kind in ("numeric", "date", "timestamptz", "uuid"):
                kind = column.kind
                try:
                    constant_value(kind, source.value)
                except ValueError as error:
                    raise DeclarationError(f"{here}: {error}.") from None
        case "envelope":
            kind, nullable = ENVELOPE_FIELDS[source.value], source.value == "workflowid"
        case scope:
            holder = contract if scope == "data" else Contract("", element.fields if element else ())
            found = holder.field_at(source.value)
            if found is None:
                raise DeclarationError(f"{here}: there is no field {source.value}.")
            kind, nullable = found.column_kind, found.nullable
    if kind != column.kind and (kind, column.kind) not in (("int", "numeric"), ("int", "float")):
        raise DeclarationError(f"{here}: the column is {column.kind} but the event's value is {kind}.")
    if nullable and not column.nullable and not key:
        raise DeclarationError(
            f"{here}: the event's value can be missing, but the column is required.",
            remedy="Declare the column as … | None, or the field as required.",
        )
    if nullable and key:
        raise DeclarationError(
            f"{here}: the event's value can be missing.", remedy="Declare the field as required."
        )


def _check_mixed(entity: str, columns: tuple[EntityColumn, ...], folds: tuple[Fold, ...]) -> None:
    """Operations of one column must combine, and what adds or compares must start from nothing."""
    for column in columns:
        kinds = {op.kind for fold in folds for op in fold.operations if op.column == column.name} - {"set"}
        if len(kinds) > 1:
            raise DeclarationError(
                f"{entity}.{column.name}: {' and '.join(sorted(kinds))} cannot be mixed in one column.",
                remedy="Use a column for each.",
            )
        if kinds and column.default not in (None, "0"):
            raise DeclarationError(
                f"{entity}.{column.name}: {kinds.pop()} starts from nothing, so it takes no default."
            )


def _check_columns_set(entity: str, columns: tuple[EntityColumn, ...], folds: tuple[Fold, ...]) -> None:
    set_by = {operation.column for fold in folds for operation in fold.operations}
    for column in columns:
        if column.key:
            continue
        if column.name not in set_by:
            raise DeclarationError(
                f"{entity}.{column.name}: no event sets this column.",
                remedy="Name it in a fold, or remove it.",
            )
        if column.type.nullable or column.default is not None:
            continue
        for fold in folds:
            if fold.kind == "upsert" and column.name not in {op.column for op in fold.operations}:
                raise DeclarationError(
                    f"{entity}.{column.name}: {fold.contract.type} can create a row without this required "
                    "column.",
                    remedy="Make the column … | None, give it a default, or patch instead of upsert.",
                )
    if not any(fold.kind == "upsert" for fold in folds):
        raise DeclarationError(f"{entity}: no upsert, so no row would ever be created.")
