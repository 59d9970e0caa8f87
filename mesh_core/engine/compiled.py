"""Folds compiled to functions: from a decoded event to keys, values and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Any
from uuid import UUID

from mesh_core.contracts.limits import check_decimal, to_json_text
from mesh_core.model.entity import EntityModel
from mesh_core.model.folds import Fold, Source
from mesh_core.model.identifiers import MAX_KEY_BYTES, key_parts, key_text
from mesh_core.model.types import ColumnType, constant_value
from mesh_core.store.entity_writes import EntityVersion, Shape

Key = tuple[Any, ...]
Values = tuple[Any, ...]


@dataclass(eq=False)
class CompiledFold:
    """One fold of one entity version.

    `key` is the full key, or the record key for `each` and deletes. It raises ValueError for a tombstone whose record
    key is no key of the entity.

    `whole`: the event says all there is to say of the row, so it supersedes what is parked. `simple`: a whole-state
    upsert that cannot be refused and needs no look-up.
    """

    version: EntityVersion
    shape: Shape
    key: Callable[[Any], Key]
    values: Callable[[Any], Values]
    check: Callable[[Any], str | None] | None
    whole: bool
    elements: Callable[[Any], Sequence[Any]] | None = None
    element_key: Callable[[Any], Key] | None = None
    window: int | None = None
    needs_sequence: bool = False
    keys: Sequence[Source] = ()

    @property
    def simple(self) -> bool:
        """Whether a run of such events can be folded by looking at the last of each key alone."""
        return (
            self.shape.kind == "upsert"
            and self.whole
            and self.elements is None
            and self.check is None
            and self.window is None
            and not self.needs_sequence
            and len(self.version.model.record_key) == len(self.version.model.key)
        )

    @property
    def needs_presence(self) -> bool:
        """Whether what the event does depends on a row being there."""
        return self.shape.kind != "upsert"

    def record_key(self, key: Key) -> str:
        """The record key that an event of this key must have."""
        parts = len(self.version.model.record_key)
        return str(key[0]) if parts == 1 else key_text(key[:parts])


def compile_fold(version: EntityVersion, fold: Fold) -> CompiledFold:
    """The functions of a fold."""
    model = version.model
    record = len(model.record_key)
    shape = Shape(
        fold.kind,
        tuple((operation.column, operation.kind) for operation in fold.operations),
    )
    value_columns = {column.name for column in model.columns if not column.key}
    whole = fold.kind == "delete" or (
        fold.kind == "upsert"
        and all(op == "set" for _, op in shape.operations)
        and {c for c, _ in shape.operations} == value_columns
    )
    sources = [operation.source for operation in fold.operations]
    types = [model.column(operation.column).type for operation in fold.operations]
    elements = element_key = None
    if fold.each:
        elements = attrgetter(f"data.{fold.each}")
        element_key = _reader(fold.keys[record:], "element")
        values = _element_values(sources, types)
    else:
        values = _values(sources, types)
    windows = [operation.window for operation in fold.operations if operation.kind == "add"]
    return CompiledFold(
        version,
        shape,
        _reader(fold.keys[:record] if fold.each or fold.kind == "delete" else fold.keys, "event"),
        values,
        _check(model, fold, elements, element_key),
        whole,
        elements,
        element_key,
        max((w for w in windows if w is not None), default=None),
        any(window is None for window in windows),
        fold.keys,
    )


def parse_key(model: EntityModel, text: str) -> Key:
    """The record key's values from its canonical text. Raises ValueError when it is not canonical."""
    parsers: Mapping[str, Callable[[str], Any]] = {
        "int": int,
        "text": str,
        "uuid": UUID,
        "date": date.fromisoformat,
    }
    parts = key_parts(text, len(model.record_key))
    key = tuple(
        parsers[model.column(name).type.kind](part)
        for name, part in zip(model.record_key, parts, strict=True)
    )
    if key_text(key) != text:
        raise ValueError(f"{text!r} is not how the key {key_text(key)!r} is written")
    return key


def _path(source: Source) -> str:
    match source.scope:
        case "data":
            return f"data.{source.value}"
        case "element":
            return str(source.value)
        case _:
            return str(source.value)


def _reader(sources: Sequence[Source], scope: str) -> Callable[[Any], tuple[Any, ...]]:
    """A function that reads these sources as a tuple, in C where the sources allow it."""
    if all(source.scope != "constant" and "." not in str(source.value) for source in sources):
        paths = [_path(source) for source in sources]
        if len(paths) > 1:
            return attrgetter(*paths)
        if paths:
            one = attrgetter(paths[0])
            return lambda event: (one(event),)
    getters = [_getter(source) for source in sources]
    return lambda event: tuple(getter(event) for getter in getters)


def _getter(source: Source) -> Callable[[Any], Any]:
    if source.scope == "constant":
        return lambda _: source.value
    names = _path(source).split(".")

    def read(value: Any) -> Any:
        for name in names:
            if value is None:
                return None
            value = getattr(value, name)
        return value

    return read


def _converter(kind: ColumnType) -> Callable[[Any], Any] | None:
    if kind.kind == "json":
        return lambda value: None if value is None else to_json_text(value)
    if kind.kind == "float":
        return lambda value: None if value is None else float(value)
    return None


def _constant(source: Source, kind: ColumnType) -> Source:
    if source.scope != "constant":
        return source
    return Source("constant", constant_value(kind.kind, source.value))


def _values(sources: Sequence[Source], types: Sequence[ColumnType]) -> Callable[[Any], Values]:
    read = _reader([_constant(source, kind) for source, kind in zip(sources, types, strict=True)], "event")
    converters = [(n, convert) for n, kind in enumerate(types) if (convert := _converter(kind)) is not None]
    if not converters:
        return read

    def converted(event: Any) -> Values:
        values = list(read(event))
        for n, convert in converters:
            values[n] = convert(values[n])
        return tuple(values)

    return converted


def _element_values(sources: Sequence[Source], types: Sequence[ColumnType]) -> Callable[[Any], Values]:
    """Values of an (event, element) pair."""
    fixed = [_constant(source, kind) for source, kind in zip(sources, types, strict=True)]
    getters = [
        (source.scope == "element", _getter(source), _converter(kind))
        for source, kind in zip(fixed, types, strict=True)
    ]

    def read(pair: Any) -> Values:
        event, element = pair
        values = []
        for of_element, getter, convert in getters:
            value = getter(element if of_element else event)
            values.append(convert(value) if convert else value)
        return tuple(values)

    return read


def _check(
    model: EntityModel,
    fold: Fold,
    elements: Callable[[Any], Sequence[Any]] | None,
    element_key: Callable[[Any], Key] | None,
) -> Callable[[Any], str | None] | None:
    """What this entity refuses of an event that its contract accepts; None when there is nothing to check."""
    bounded = [
        (
            operation.column,
            operation.source.scope == "element",
            _getter(operation.source),
            kind.precision,
            kind.scale,
        )
        for operation in fold.operations
        if (kind := model.column(operation.column).type).precision is not None
    ]

    def digits(event: Any, element: Any) -> str | None:
        for column, of_element, getter, precision, scale in bounded:
            number = getter(element if of_element else event)
            if number is not None and (problem := check_decimal(number, precision, scale)):
                return f"{model.name}.{column}: {problem}"
        return None

    if elements is None or element_key is None:
        return (lambda event: digits(event, None)) if bounded else None
    read_elements, read_key = elements, element_key

    def each(event: Any) -> str | None:
        seen = set()
        for element in read_elements(event) or ():
            key = read_key(element)
            if key in seen:
                return f"{model.name}: {fold.each} has two elements of the key {key_text(key)}"
            if len(key_text(key).encode()) > MAX_KEY_BYTES:
                return f"{model.name}: an element's key is longer than {MAX_KEY_BYTES} bytes"
            seen.add(key)
            if problem := digits(event, element):
                return problem
        return None

    return each


@dataclass(eq=False)
class Route:
    """Where the events of one type go. `simple`: each fold takes them as the whole state of the same row."""

    event_type: str
    folds: Sequence[CompiledFold]
    simple: bool


def routes(versions: Iterable[EntityVersion], topic: str) -> dict[str, Route]:
    """For every event type of a topic, the folds of the entity versions that it feeds."""
    types: dict[str, list[CompiledFold]] = {}
    for version in versions:
        for fold in version.model.folds if version.model.topic == topic else ():
            types.setdefault(fold.contract.type, []).append(compile_fold(version, fold))
    return {
        event_type: Route(
            event_type, folds, all(fold.simple and fold.keys == folds[0].keys for fold in folds)
        )
        for event_type, folds in types.items()
    }


def tombstone_route(versions: Iterable[EntityVersion]) -> Route:
    """Where a record without a value goes: it deletes its key for every entity that declares so."""
    taking = [version for version in versions if version.model.tombstones]
    return Route("", [_tombstone_fold(version) for version in taking], False)


def _tombstone_fold(version: EntityVersion) -> CompiledFold:
    return CompiledFold(
        version,
        Shape("delete"),
        lambda tombstone: parse_key(version.model, tombstone.key.decode()),
        lambda _: (),
        None,
        True,
    )
