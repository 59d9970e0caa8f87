"""msgspec types generated from contracts: what the decoder fills."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import msgspec
from msgspec import Meta

from mesh_core.contracts.limits import MAX_INT, MIN_INT, decimal_problem, json_problem, time_problem
from mesh_core.model.event import Contract
from mesh_core.model.types import Field, FieldType

Check = Callable[[Any], str | None]
"""Says what is wrong with a decoded value that msgspec alone cannot see, path first; None if nothing is."""

NULL = ": null"
"""How the detail of a value that must be there ends."""
MAX_ID, MAX_SUBJECT, MAX_TYPE, MAX_SOURCE = 256, 512, 256, 2048
SEQUENCE_PATTERN = r"^[0-9]{1,18}$(?!\n)"

BigInt = Annotated[int, Meta(ge=MIN_INT, le=MAX_INT)]
Time = Annotated[datetime, Meta(tz=True)]

ENVELOPE: tuple[tuple[Any, ...], ...] = (
    ("specversion", Literal["1.0"]),
    ("id", Annotated[str, Meta(min_length=1, max_length=MAX_ID)]),
    ("source", Annotated[str, Meta(min_length=1, max_length=MAX_SOURCE)]),
    ("time", Time),
    ("subject", Optional[Annotated[str, Meta(max_length=MAX_SUBJECT)]], None),  # noqa: UP045
    ("workflowid", UUID | None, None),
    ("sequence", BigInt | Annotated[str, Meta(pattern=SEQUENCE_PATTERN)] | None, None),
    ("correlationid", str | None, None),
    ("causationid", str | None, None),
    ("tenantid", str | None, None),
    ("traceparent", str | None, None),
    ("tracestate", str | None, None),
)
"""The attributes of an envelope besides `type` and `data`: name, msgspec type, default if optional."""

_KEPT: dict[str, Callable[[Any, Any], bool]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}
_SCALARS: dict[str, Any] = {
    "numeric": Decimal,
    "bool": bool,
    "timestamptz": Time,
    "date": date,
    "uuid": UUID,
    "json": Any,
}


def envelope_struct(contract: Contract) -> type[msgspec.Struct]:
    """The struct of a whole event of `contract`, tagged by its type, payload in `data`."""
    return msgspec.defstruct(
        contract.type,
        [*ENVELOPE, ("data", _object(contract.type, contract.fields))],
        tag_field="type",
        tag=contract.type,
        namespace={"type": contract.type},
        kw_only=True,
        gc=False,
    )


def _object(name: str, fields: tuple[Field, ...]) -> type[msgspec.Struct]:
    described: list[Any] = []
    for field in fields:
        kind = _type(f"{name}.{field.name}", field.type)
        if field.required:
            described.append((field.name, kind))
        else:
            described.append((field.name, kind, _default(field, kind)))
    return msgspec.defstruct(name, described, kw_only=True, gc=False)


def _default(field: Field, kind: Any) -> Any:
    if field.default is None or field.type.kind in ("list", "json", "object"):
        return field.default
    return msgspec.convert(field.default, kind, strict=False)


def _type(name: str, field: FieldType) -> Any:
    limits = dict(field.constraints)
    kind: Any
    match field.kind:
        case "int":
            low, high = integer_bounds(limits)
            kind = Annotated[int, Meta(ge=low, le=high)]
        case "float":
            kind = Annotated[float, Meta(**limits)] if limits else float
        case "text":
            kind = Annotated[str, Meta(**limits)] if limits else str
        case "list":
            assert field.item is not None
            kind = list[_type(name, field.item)]  # type: ignore[misc]  # built at run time
            kind = Annotated[kind, Meta(**limits)] if limits else kind
        case "object":
            kind = _object(name, field.fields)
        case "enum":
            kind = Literal[field.values]
        case scalar:
            kind = _SCALARS[scalar]
    return Optional[kind] if field.nullable else kind  # noqa: UP045


def integer_bounds(limits: dict[str, Any]) -> tuple[int, int]:
    """Least and greatest of a whole number within a bigint, from any of ge, gt, le, lt."""
    low = [MIN_INT]
    high = [MAX_INT]
    if "ge" in limits:
        low.append(math.ceil(limits["ge"]))
    if "gt" in limits:
        low.append(math.floor(limits["gt"]) + 1)
    if "le" in limits:
        high.append(math.floor(limits["le"]))
    if "lt" in limits:
        high.append(math.ceil(limits["lt"]) - 1)
    return max(low), min(high)


def payload_check(contract: Contract) -> Check | None:
    """The check of the payload of `contract`; None if msgspec sees everything."""
    return _object_check(contract.fields)


def _object_check(fields: tuple[Field, ...]) -> Check | None:
    checks = [
        (f".{field.name}", attrgetter(field.name), check, field.required and _refuses_null(field.type))
        for field in fields
        if (check := _check(field.type)) is not None
    ]
    if not checks:
        return None

    def check_object(value: Any) -> str | None:
        for name, get, check, needed in checks:
            inner = get(value)
            if inner is None:
                if needed:
                    return f"{name}{NULL}"
            elif (problem := check(inner)) is not None:
                return name + problem
        return None

    return check_object


def _refuses_null(kind: FieldType) -> bool:
    """Whether null must be refused here: msgspec does it for all kinds but free JSON."""
    return kind.kind == "json" and not kind.nullable


def _check(field: FieldType) -> Check | None:
    match field.kind:
        case "timestamptz":
            return lambda time: None if 1 < time.year < 9999 else _at(time_problem(time))
        case "numeric":
            return _decimal_check(dict(field.constraints))
        case "json":
            return lambda value: _at(json_problem(value))
        case "object":
            return _object_check(field.fields)
        case "list":
            assert field.item is not None
            inner = _check(field.item)
            return None if inner is None else _list_check(inner, _refuses_null(field.item))
        case _:
            return None


def _list_check(check: Check, needed: bool) -> Check:
    def check_list(values: list[Any]) -> str | None:
        for index, value in enumerate(values):
            if value is None:
                if needed:
                    return f"[{index}]{NULL}"
            elif (problem := check(value)) is not None:
                return f"[{index}]{problem}"
        return None

    return check_list


def _decimal_check(limits: dict[str, Any]) -> Check:
    bounds = [(name, _KEPT[name], Decimal(repr(limit))) for name, limit in limits.items() if name in _KEPT]

    def check_decimal(number: Decimal) -> str | None:
        if problem := decimal_problem(number):
            return f": {problem}"
        for name, kept, bound in bounds:
            if not kept(number, bound):
                return f": {number} is not {name} {bound}"
        return None

    return check_decimal


def _at(problem: str | None) -> str | None:
    return None if problem is None else f": {problem}"
