"""Upcasters: how an event of an older contract reads as one of a newer, as plain data.

They work where folds are declared: a fold of the newer event brings one of the older with it, so neither batches nor
builds are slowed, what is published stays as it is, and a version whose code is gone is kept up as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mesh_core.model.errors import DeclarationError
from mesh_core.model.event import Contract, Event, EventField, family, major
from mesh_core.model.folds import Fold, Source, source_of
from mesh_core.model.types import FieldType


@dataclass(frozen=True, slots=True)
class UpcastDeclaration:
    """An upcaster as written, before it is bound to the newer event."""

    event: type[Event]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Upcast:
    """Where each field of the newer payload comes from: a path of the older one, or a constant."""

    event: type[Event]
    newer: str
    """The type of the newer event."""
    sources: Mapping[str, Source]

    def payload(self, older: Mapping[str, Any]) -> dict[str, Any]:
        """The newer payload of an older one."""
        newer = {}
        for name, source in self.sources.items():
            value: Any = source.value
            if source.scope == "data":
                value = older
                for step in str(source.value).split("."):
                    value = value.get(step) if isinstance(value, Mapping) else None
            newer[name] = value
        return newer

    def fold(self, fold: Fold) -> Fold:
        """What an event of the older contract does, where the newer one does `fold`. Raises DeclarationError."""
        older = self.event.contract
        each = None
        if fold.each is not None:
            found = self._moved(Source("data", fold.each))
            if found.scope != "data":
                raise DeclarationError(
                    f"{older.type} has no list that could be {fold.contract.type}'s {fold.each}."
                )
            each = str(found.value)
        return Fold(
            fold.kind,
            older,
            tuple(self._source(key, each) for key in fold.keys),
            tuple(replace(each_, source=self._source(each_.source, each)) for each_ in fold.operations),
            each,
        )

    def _source(self, source: Source, each: str | None) -> Source:
        if source.scope == "element":
            assert each is not None
            held = self.event.contract.field_at(each)
            item = held.item if held is not None else None
            if item is None or Contract("", item.fields).field_at(str(source.value)) is None:
                raise DeclarationError(f"{self.event.type}: an element of {each} has no {source.value}.")
            return source
        return self._moved(source) if source.scope == "data" else source

    def _moved(self, source: Source) -> Source:
        name, _, rest = str(source.value).partition(".")
        found = self.sources[name]
        if found.scope == "constant":
            if rest and isinstance(found.value, Mapping):
                return Source("constant", found.value.get(rest))
            return found if not rest else Source("constant", None)
        path = f"{found.value}.{rest}" if rest else str(found.value)
        if self.event.contract.field_at(path) is None:
            raise DeclarationError(f"{self.event.type} has no {path}, which its newer contract has.")
        return Source("data", path)


def upcast(event: type[Event], /, **fields: Any) -> UpcastDeclaration:
    """How an event of an older contract reads as the newer one that this is declared with.

    Fields take those of the same name; `fields` says where else one comes from: a field of the older event, or a plain
    value. What neither has is the field's default.

    >>> class Placed(Event, type="shop.order.placed.v1"):
    ...     order_id: int
    ...     amount: int
    >>> class PlacedWithCurrency(
    ...     Event, type="shop.order.placed.v2", upcasts=[upcast(Placed, total=Placed.amount, currency="EUR")]
    ... ):
    ...     order_id: int
    ...     total: int
    ...     currency: str
    """
    return UpcastDeclaration(event, fields)


def bind_upcasts(newer: type[Event], declared: Iterable[UpcastDeclaration]) -> Iterator[Upcast]:
    """The upcasters of an event. Raises DeclarationError naming class and field."""
    seen: set[str] = set()
    for each in declared:
        older = each.event
        where = f"{newer.__name__}: upcast({getattr(older, '__name__', older)})"
        if not (isinstance(older, type) and issubclass(older, Event)) or not getattr(older, "type", ""):
            raise DeclarationError(f"{where} is not of an event with a type.")
        if family(older.type) != family(newer.type) or major(older.type) >= major(newer.type):
            raise DeclarationError(
                f"{where}: {older.type} is not an older version of {newer.type}.",
                remedy="An upcaster leads from one major of a type to a higher one.",
            )
        if older.type in seen:
            raise DeclarationError(f"{where}: {older.type} is upcast twice.")
        seen.add(older.type)
        names = {field.name for field in newer.contract.fields}
        if unknown := set(each.values) - names:
            raise DeclarationError(f"{where}: {sorted(unknown)[0]!r} is not a field of {newer.__name__}.")
        yield Upcast(
            older,
            newer.type,
            {
                field.name: _bound(where, newer, older, field.name, each.values)
                for field in newer.contract.fields
            },
        )


def _bound(
    where: str, newer: type[Event], older: type[Event], name: str, values: Mapping[str, Any]
) -> Source:
    here = f"{where}, field {name}"
    (field,) = (field for field in newer.contract.fields if field.name == name)
    if name in values:
        value = values[name]
        if isinstance(value, EventField) and value.owner is not older:
            raise DeclarationError(f"{here}: {value.owner.__name__} is another event.")
        source = source_of(value)
        if source.scope not in ("data", "constant"):
            raise DeclarationError(f"{here}: takes a field of {older.__name__}, or a plain value.")
    elif older.contract.field_at(name) is not None:
        source = Source("data", name)
    elif field.required:
        raise DeclarationError(
            f"{here}: {older.__name__} has no field of that name.",
            remedy=f"Say where it comes from: upcast({older.__name__}, {name}=…), or give the field a default.",
        )
    else:
        return Source("constant", field.default)
    may_lack = field.type.nullable or (not field.required and field.default is None)
    if source.scope == "constant":
        if source.value is None and not may_lack:
            raise DeclarationError(f"{here} is required, so it cannot come from None.")
        if problem := constant_problem(field.type, source.value):
            raise DeclarationError(f"{here}: {problem}.")
        return source
    found = older.contract.field_at(str(source.value))
    assert found is not None
    if not _reads_as(found, field.type):
        raise DeclarationError(
            f"{here}: {older.__name__}.{source.value} is {found.kind}, which does not read as {field.type.kind}."
            if found.kind != field.type.kind
            else f"{here}: not all that {older.__name__}.{source.value} may be is what {newer.__name__} takes.",
            remedy="Let the newer field take as much, or take a plain value.",
        )
    if found.nullable and not may_lack:
        raise DeclarationError(
            f"{here}: {older.__name__}.{source.value} can be missing.",
            remedy="Give the newer field … | None.",
        )
    return source


def constant_problem(kind: FieldType, value: Any) -> str | None:
    """Why a plain value cannot be of a type, or None."""
    if value is None:
        return None
    fits: Mapping[str, tuple[type, ...]] = {
        "int": (int,),
        "text": (str,),
        "numeric": (int, str),
        "float": (int, float),
        "bool": (bool,),
        "timestamptz": (str,),
        "date": (str,),
        "uuid": (str,),
        "json": (bool, int, float, str),
    }
    if kind.kind == "enum":
        return None if value in kind.values else f"{value!r} is none of its values"
    wanted = fits.get(kind.kind, ())
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        return f"{value!r} is not {kind.kind}"
    return None


def _reads_as(older: FieldType, newer: FieldType) -> bool:
    """Whether every value of one type is one of another, whatever null is: what a subscriber's class is told is checked."""
    if newer.kind == "json":
        return True
    if newer.constraints and dict(older.constraints) != dict(newer.constraints):
        return False
    if older.kind == newer.kind == "enum":
        return set(older.values) <= set(newer.values)
    if older.kind == newer.kind == "list":
        assert older.item is not None
        assert newer.item is not None
        return _part_reads_as(older.item, newer.item)
    if older.kind == newer.kind == "object":
        return all(
            (known := older.field(field.name)) is not None
            and (known.required or not field.required)
            and _part_reads_as(known.type, field.type)
            if field.required or older.field(field.name) is not None
            else True
            for field in newer.fields
        )
    if older.kind == newer.kind:
        return True
    return (older.kind, newer.kind) in (
        ("int", "numeric"),
        ("int", "float"),
        ("float", "numeric"),
        ("enum", "text"),
    )


def _part_reads_as(older: FieldType, newer: FieldType) -> bool:
    return (newer.nullable or not older.nullable) and _reads_as(older, newer)


def with_older(event: type[Event], fold: Fold, explicit: frozenset[str]) -> Iterator[Fold]:
    """A fold, and what it comes to for the older events that its own is upcast from, but for those in `explicit`."""
    yield fold
    upcasts: tuple[Upcast, ...] = event.upcasts
    for each in upcasts:
        if each.event.type not in explicit:
            yield from with_older(each.event, each.fold(fold), explicit)
