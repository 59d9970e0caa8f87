"""What a change of contracts breaks, by rules that look at the contracts alone.

*Backward*: what was published by the old contract can be read by the new one, so readers can go first, and history can
be replayed. *Forward*: what is published by the new contract can be read by the old one, so publishers can go first.
*Full*: both. A value can be read if the contract accepts it and it still means the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from mesh_core.contracts.structs import integer_bounds
from mesh_core.model.event import Contract, family
from mesh_core.model.types import Field, FieldType

Mode = Literal["backward", "forward", "full"]
_EXACT = 2**53
"""Whole numbers up to this are exact as floats."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of two contracts. `backward` and `forward` say what it breaks, or are None where it does not."""

    type: str
    path: str
    what: str
    backward: str | None = None
    forward: str | None = None

    def breaks(self, mode: Mode) -> str | None:
        """What it breaks in this mode, or None."""
        if mode == "backward":
            return self.backward
        return self.forward if mode == "forward" else self.backward or self.forward


def differences(old: Iterable[Contract], new: Iterable[Contract]) -> list[Change]:
    """All differences, by type and path."""
    before, after = ({contract.type: contract for contract in each} for each in (old, new))
    found: list[Change] = []
    for name in sorted({*before, *after}):
        if name not in after:
            found.append(
                Change(name, "", "type removed", backward="events of this type are not read any more")
            )
        elif name not in before:
            others = sorted(other for other in before if family(other) == family(name))
            said = f"readers that know only {', '.join(others)} refuse it" if others else None
            found.append(Change(name, "", "type added", forward=said))
        else:
            found += _of_objects(name, "$.data", before[name].fields, after[name].fields)
    return found


def _of_objects(name: str, path: str, old: tuple[Field, ...], new: tuple[Field, ...]) -> Iterator[Change]:
    before, after = ({field.name: field for field in each} for each in (old, new))
    for field in dict.fromkeys([*before, *after]):
        here = f"{path}.{field}"
        if field not in after:
            lacking = f"{here} is required by the old contract, and new events lack it"
            yield Change(name, here, "field removed", forward=lacking if before[field].required else None)
        elif field not in before:
            lacking = f"{here} is required, and old events lack it"
            what = "required field added" if after[field].required else "optional field added"
            yield Change(name, here, what, backward=lacking if after[field].required else None)
        else:
            yield from _of_fields(name, here, before[field], after[field])


def _of_fields(name: str, path: str, old: Field, new: Field) -> Iterator[Change]:
    if old.required != new.required:
        lacking = f"{path} is required, and events of the other contract may lack it"
        if new.required:
            yield Change(name, path, "made required", backward=lacking)
        else:
            yield Change(name, path, "made optional", forward=lacking)
    elif not old.required and old.default != new.default:
        meaning = f"events without {path} mean {new.default!r} instead of {old.default!r}"
        yield Change(name, path, "default changed", backward=meaning, forward=meaning)
    yield from _of_types(name, path, old.type, new.type)


def _of_types(name: str, path: str, old: FieldType, new: FieldType) -> Iterator[Change]:
    if old.nullable != new.nullable:
        null = f"{path} may be null, which the other contract refuses"
        what = "made nullable" if new.nullable else "null not allowed any more"
        yield (
            Change(name, path, what, forward=null)
            if new.nullable
            else Change(name, path, what, backward=null)
        )
    if old.kind == new.kind == "object":
        yield from _of_objects(name, path, old.fields, new.fields)
    elif old.kind == new.kind == "list":
        assert old.item is not None
        assert new.item is not None
        yield from _limits(name, path, old, new)
        yield from _of_types(name, f"{path}[]", old.item, new.item)
    elif old.kind == new.kind == "enum":
        yield from _enums(name, path, old, new)
    elif old.kind == new.kind:
        yield from _limits(name, path, old, new)
    else:
        backward, forward = _outside(old, new), _outside(new, old)
        yield Change(
            name,
            path,
            f"{_shown(old)} became {_shown(new)}",
            backward and f"{path}: {backward}",
            forward and f"{path}: {forward}",
        )


def _enums(name: str, path: str, old: FieldType, new: FieldType) -> Iterator[Change]:
    gone = [value for value in old.values if value not in new.values]
    come = [value for value in new.values if value not in old.values]
    if gone:
        yield Change(
            name, path, f"values removed: {_listed(gone)}", backward=f"{path} is {gone[0]!r} in old events"
        )
    if come:
        yield Change(
            name,
            path,
            f"values added: {_listed(come)}",
            forward=f"{path} may be {come[0]!r}, which is refused",
        )


def _limits(name: str, path: str, old: FieldType, new: FieldType) -> Iterator[Change]:
    if dict(old.constraints) == dict(new.constraints):
        return
    backward, forward = _beyond(old, new), _beyond(new, old)
    if old.kind == "int" and not backward and not forward and old.constraints and new.constraints:
        return  # written in another way
    what = f"limits changed from {_limits_of(old)} to {_limits_of(new)}"
    yield Change(name, path, what, backward and f"{path}: {backward}", forward and f"{path}: {forward}")


def _outside(inner: FieldType, outer: FieldType) -> str | None:
    """Which values of a kind another kind does not read as the same, or None."""
    limits = dict(inner.constraints)
    match inner.kind, outer.kind:
        case _, "json":
            return None
        case "int", "numeric":
            return _beyond(inner, outer)
        case "int", "float":
            low, high = integer_bounds(limits)
            if low < -_EXACT or high > _EXACT:
                return "whole numbers beyond 2^53 are not exact as float"
            return _beyond(inner, outer)
        case "float", "numeric":
            return _beyond(inner, outer)
        case (("uuid" | "date" | "timestamptz"), "text") if not outer.constraints:
            return None
        case "enum", "text" if all(isinstance(value, str) for value in inner.values):
            return _enum_beyond(inner, outer)
        case "enum", "int" if all(isinstance(value, int) for value in inner.values):
            return _enum_beyond(inner, outer)
        case "enum", ("float" | "numeric") if all(isinstance(value, int) for value in inner.values):
            return _enum_beyond(inner, outer)
    return f"a value of {_shown(inner)} is not one of {_shown(outer)}"


def _enum_beyond(inner: FieldType, outer: FieldType) -> str | None:
    if "pattern" in dict(outer.constraints):
        return "the pattern may refuse values of the choice"
    for value in inner.values:
        number = FieldType("int", constraints=(("ge", value), ("le", value)))
        length = FieldType(
            "text", constraints=(("max_length", len(str(value))), ("min_length", len(str(value))))
        )
        if _beyond(length if isinstance(value, str) else number, outer):
            return f"{value!r} is beyond its limits"
    return None


def _beyond(inner: FieldType, outer: FieldType) -> str | None:
    """Which values within the limits of one type are beyond those of another, or None."""
    mine, theirs = dict(inner.constraints), dict(outer.constraints)
    if "pattern" in theirs and mine.get("pattern") != theirs["pattern"]:
        return f"texts need not match {theirs['pattern']}"
    for name, value in theirs.items():
        if name == "min_length" and mine.get(name, 0) < value:
            return f"shorter than {value}"
        if name == "max_length" and mine.get(name, float("inf")) > value:
            return f"longer than {value}"
    if inner.kind == "int" and outer.kind == "int":
        (low, high), (least, most) = integer_bounds(mine), integer_bounds(theirs)
        return f"less than {least}" if low < least else f"more than {most}" if high > most else None
    whole = inner.kind == "int"
    return _end_beyond(mine, theirs, "ge", "gt", 1, whole) or _end_beyond(mine, theirs, "le", "lt", -1, whole)


def _end_beyond(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], closed: str, open_: str, sign: int, whole: bool
) -> str | None:
    """Whether one end of an interval is beyond that of another; `sign` is 1 for the lower end, -1 for the upper."""
    if closed not in theirs and open_ not in theirs:
        return None
    if whole:
        bounds = integer_bounds(dict(mine))
        reach, open_end = Decimal(bounds[0] if sign == 1 else bounds[1]), False
    else:
        ends = [(_number(mine[name]), name == open_) for name in (closed, open_) if name in mine]
        if not ends:
            return "no limit"
        reach, open_end = max(ends, key=lambda end: (sign * end[0], end[1]))
    for name in (closed, open_):
        if name in theirs:
            bound = _number(theirs[name])
            if sign * reach < sign * bound or (reach == bound and name == open_ and not open_end):
                return f"not {name} {theirs[name]}"
    return None


def _number(value: Any) -> Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _shown(kind: FieldType) -> str:
    if kind.kind == "enum":
        return f"one of {_listed(kind.values)}"
    return {"numeric": "decimal", "timestamptz": "time", "json": "any JSON"}.get(kind.kind, kind.kind)


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _limits_of(kind: FieldType) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(dict(kind.constraints).items())) or "none"
