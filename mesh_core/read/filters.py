"""Filters of a request: `column=op.value`, and nested `and=(…)`, `or=(…)`. Every refusal names what is at fault.

The value of a column's own parameter is all that follows the operator. Within parentheses a comma or a parenthesis ends
a value, so one that has them stands in double quotes, where a backslash keeps the character after it; what is compared
with JSON is JSON, and ends where that does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from mesh_core.model.types import ColumnKind
from mesh_core.read.conditions import Comparison, Condition, Junction, Operator, Reference
from mesh_core.read.errors import InvalidParameter, InvalidValue, UnknownParameter, listing, nearest, shown
from mesh_core.read.values import canonical
from mesh_core.read.versions import Version

OPERATORS: tuple[Operator, ...] = get_args(Operator)
JUNCTIONS = ("and", "or", "not.and", "not.or")
PARAMETERS = ("select", "order", "limit", "cursor", "count")
"""Those of a list that are no filters."""
NOT_SERVED: Mapping[str, str] = {
    **dict.fromkeys(
        ("match", "imatch"), "a regular expression may take any time; use like, or declare a column"
    ),
    **dict.fromkeys(("fts", "plfts", "phfts", "wfts"), "views have no search index"),
    "cd": "no index answers it",
    **dict.fromkeys(("ov", "sl", "sr", "nxr", "nxl", "adj"), "no column of a view is a range or an array"),
    **dict.fromkeys(("any", "all"), "use in, or=(…) or and=(…)"),
}
"""What PostgREST has besides, and why it is refused."""

_BARE = re.compile(rf"(?:not\.)?(?:{'|'.join(OPERATORS)})(?=\(|$)")
_KEYWORDS = ("null", "not_null", "true", "false", "unknown")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEP = re.compile(r'(->>?)(?:"((?:[^"\\]|\\.)*)"|([^"\-.,()>=]+))')
_OPERATION = re.compile(r"(not\.)?([A-Za-z_]+)(\([a-z]*\))?\.")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TEXTS = frozenset({"like", "ilike"})
_ORDERED = frozenset({"gt", "gte", "lt", "lte"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a request may ask: conditions, parentheses within each other, values of a list."""

    conditions: int = 100
    depth: int = 8
    values: int = 1000


class Filters:
    """The filters of one request, which are bounded."""

    def __init__(self, version: Version, bounds: Bounds) -> None:
        self._version, self._bounds = version, bounds
        self._count = 0

    def of_column(self, name: str, text: str) -> Condition:
        """What the parameter `name=text` says of a column. Raises UnknownParameter, InvalidParameter, InvalidValue."""
        place, end = reference(self._version, name, 0)
        if end != len(name):
            raise InvalidParameter(f"{shown(name)} is not a column or a place in one.", remedy=_PLACES)
        negated, operator, start = self._operation(place, text, 0)
        if operator is None and (bare := _BARE.match(text)):
            raise InvalidParameter(
                f"{place.column}: {bare[0]} has no value.",
                remedy=f"Write {place.column}={bare[0]}.VALUE, or {place.column}=eq.{bare[0]} for that text.",
            )
        if operator is None:
            return self._comparison(place, "eq", text, False)
        if operator == "in":
            values, end = self._list(place, text, start)
            if end != len(text):
                raise _malformed(name, text, end)
            return self._comparison(place, operator, values, negated)
        return self._comparison(place, operator, text[start:], negated)

    def of_junction(self, name: str, text: str) -> Condition:
        """What `or=(…)`, `and=(…)`, `not.or=(…)` or `not.and=(…)` says. Raises as `of_column`."""
        operator = cast(Literal["and", "or"], name.removeprefix("not."))
        junction, end = self._junction(name, operator, name.startswith("not."), text, 0, 1)
        if end != len(text):
            raise _malformed(name, text, end)
        return junction

    def _junction(
        self, name: str, operator: Literal["and", "or"], negated: bool, text: str, at: int, depth: int
    ) -> tuple[Junction, int]:
        if depth > self._bounds.depth:
            raise InvalidParameter(
                f"{name}: more than {self._bounds.depth} parentheses deep.", remedy="Nest them less."
            )
        if text[at : at + 1] != "(":
            raise _malformed(name, text, at)
        parts: list[Condition] = []
        at += 1
        while True:
            nested = re.compile(r"(not\.)?(and|or)(?=\()").match(text, at)
            part: Condition
            if nested:
                inner = cast(Literal["and", "or"], nested[2])
                part, at = self._junction(name, inner, bool(nested[1]), text, nested.end(), depth + 1)
            else:
                part, at = self._part(name, text, at)
            parts.append(part)
            end, at = text[at : at + 1], at + 1
            if end == ")":
                return Junction(operator, tuple(parts), negated), at
            if end != ",":
                raise _malformed(name, text, at - 1)

    def _part(self, name: str, text: str, at: int) -> tuple[Condition, int]:
        place, at = reference(self._version, text, at, name)
        if text[at : at + 1] != ".":
            raise _malformed(name, text, at)
        negated, operator, at = self._operation(place, text, at + 1)
        if operator is None:
            raise InvalidParameter(
                f"{name}: {shown(place.column)} has no operator.", remedy=f"Write {place.column}.eq.VALUE."
            )
        value: str | list[str]
        if operator == "in":
            value, at = self._list(place, text, at)
        elif place.kind == "json" and operator != "is":
            value, at = _json_within(name, text, at)
        else:
            value, at = _value(name, text, at)
        return self._comparison(place, operator, value, negated), at

    def _operation(self, reference: Reference, text: str, at: int) -> tuple[bool, Operator | None, int]:
        """(negated, operator, where its value starts); no operator where there is nothing like one."""
        found = _OPERATION.match(text, at)
        if found is None:
            return False, None, at
        negated, name, modifier = bool(found[1]), found[2], found[3]
        if name == "not" and not negated:
            raise self._unknown(reference, name)
        if modifier or name not in OPERATORS:
            raise self._unknown(reference, name + (modifier or ""))
        return negated, cast(Operator, name), found.end()

    @staticmethod
    def _unknown(reference: Reference, name: str) -> InvalidParameter:
        plain = name.partition("(")[0]
        reason = NOT_SERVED.get(plain) or (NOT_SERVED["any"] if plain in OPERATORS else "")
        if reason:
            return InvalidParameter(
                f"{reference.column}: there is no operator {shown(name)}: {reason}.",
                remedy=f"Operators: {listing(OPERATORS)}, each also after not.",
            )
        return InvalidParameter(
            f"{reference.column}: there is no operator {shown(name)}.",
            remedy=f"{nearest(name, OPERATORS)}Operators: {listing(OPERATORS)}, each also after not. "
            f"A text that starts so is written {reference.column}=eq.{shown(name)[1:-1]}.…",
        )

    def _list(self, reference: Reference, text: str, at: int) -> tuple[list[str], int]:
        if text[at : at + 1] != "(":
            raise InvalidValue(
                f"{reference.column}: in takes a list in parentheses.", remedy=f"{reference.column}=in.(a,b)"
            )
        values: list[str] = []
        if text[at + 1 : at + 2] == ")":
            return values, at + 2
        while True:
            value, at = _value(reference.column, text, at + 1)
            values.append(value)
            if len(values) > self._bounds.values:
                raise InvalidParameter(
                    f"{reference.column}: more than {self._bounds.values} values in a list.",
                    remedy="Ask several times.",
                )
            end = text[at : at + 1]
            if end == ")":
                return values, at + 1
            if end != ",":
                raise _malformed(reference.column, text, at)

    def _comparison(
        self, reference: Reference, operator: Operator, value: str | Sequence[str], negated: bool
    ) -> Comparison:
        self._count += 1
        if self._count > self._bounds.conditions:
            raise InvalidParameter(
                f"More than {self._bounds.conditions} conditions.", remedy="Use fewer conditions."
            )
        _check_use(reference, operator)
        if value == "null" and operator != "is" and reference.kind not in ("text", "json"):
            raise InvalidValue(
                f"{reference.column}: no value is not a value to compare with.",
                remedy=f"Write {reference.column}=is.null, or {reference.column}=is.not_null.",
            )
        if operator == "is":
            return Comparison(reference, operator, _keyword(reference, str(value)), negated)
        if isinstance(value, str):
            if operator in _TEXTS and (len(value) - len(value.rstrip("\\"))) % 2:
                raise InvalidValue(
                    f"{reference.column}: the pattern {shown(value)} ends in a backslash that is for nothing.",
                    remedy="Write two of them for one.",
                )
            return Comparison(reference, operator, _canonical(reference, value), negated)
        return Comparison(reference, operator, tuple(_canonical(reference, each) for each in value), negated)


def reference(version: Version, text: str, at: int, within: str = "") -> tuple[Reference, int]:
    """The column, or the place in one, that `text` has at a place; and where it ends.

    `within` is the parameter that it stands in. Raises UnknownParameter, InvalidParameter.
    """
    found = _NAME.match(text, at)
    column = found[0] if found else re.split(r"[.,()=\-]", text[at:], maxsplit=1)[0] or text[at:]
    kind = version.columns.get(column)
    where = f"{within}: " if within else ""
    if kind is None or found is None:
        known, others = list(version.columns), ""
        if not within:
            parameters = (*PARAMETERS, "and", "or")
            known, others = [*known, *parameters], f"Parameters: {', '.join(parameters)}. "
        guess = nearest(column, known)
        if column in ("offset", "page"):
            guess = "Pages go by cursor: follow the Link header. "
        raise UnknownParameter(
            f"{where}{version.name} has no column {shown(column)}.",
            remedy=f"{guess}{others}Columns: {listing(version.columns)}.",
        )
    at = found.end()
    path: list[str] = []
    gives: ColumnKind = kind.kind
    while step := _STEP.match(text, at):
        if gives != "json":
            raise InvalidParameter(
                f"{where}{shown(text[:at])} is {gives}, and has no places within.",
                remedy="Follow -> in JSON columns only, and nothing after ->>.",
            )
        path.append(_ESCAPED.sub(r"\1", step[2]) if step[2] is not None else step[3])
        gives = "text" if step[1] == "->>" else "json"
        at = step.end()
    if any("\0" in part or any("\ud800" <= c <= "\udfff" for c in part) for part in path):
        raise InvalidParameter(
            f"{where}a key in the path of {column} is not text that JSON can have.", remedy=_PLACES
        )
    return Reference(column, gives, tuple(path)), at


_PLACES = (
    "For example tags->>colour, or lines->0->>name; a key with other characters stands in double quotes."
)


def _check_use(reference: Reference, operator: Operator) -> None:
    if operator in _TEXTS and reference.kind != "text":
        raise InvalidParameter(
            f"{reference.column} is {reference.kind}; {operator} compares text.",
            remedy="Use ->> to have a place in a JSON column as text."
            if reference.kind == "json"
            else "Use eq, gt, gte, lt or lte.",
        )
    if operator == "cs" and reference.kind != "json":
        raise InvalidParameter(
            f"{reference.column} is {reference.kind}; cs looks into JSON columns.",
            remedy="Use eq, or like for text.",
        )
    if operator in _ORDERED and reference.kind == "json":
        raise InvalidParameter(
            f"{reference.column} is json, which has no order; {operator} needs one.",
            remedy="Use ->> to compare as text, or declare a column for it.",
        )
    if operator == "in" and reference.kind == "json":
        raise InvalidParameter(
            f"{reference.column} is json; in compares single values.",
            remedy="Use ->> to have it as text, or cs.",
        )


def _keyword(reference: Reference, value: str) -> str:
    if value.lower() not in _KEYWORDS or (
        value.lower() not in ("null", "not_null") and reference.kind != "bool"
    ):
        keywords = _KEYWORDS if reference.kind == "bool" else _KEYWORDS[:2]
        raise InvalidValue(
            f"{reference.column}: is takes no {shown(value)}.",
            remedy=f"{nearest(value, keywords)}It takes {listing(keywords)}.",
        )
    return value.lower()


def _canonical(reference: Reference, text: str) -> str:
    try:
        return canonical(reference.kind, text)
    except ValueError as error:
        raise InvalidValue(
            f"{reference.column} cannot be {shown(text)}: {error}.",
            remedy=f"Correct the value of {reference.column}.",
        ) from None


def _value(name: str, text: str, at: int) -> tuple[str, int]:
    """A value within parentheses, and where it ends."""
    if text[at : at + 1] == '"':
        found = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(text, at)
        if found is None:
            raise InvalidParameter(
                f"{name}: a double quote is not closed, from {shown(text[at:])}.", remedy='Close it with ".'
            )
        return _ESCAPED.sub(r"\1", found[1]), found.end()
    end = next((n for n in range(at, len(text)) if text[n] in ",()"), len(text))
    return text[at:end], end


def _json_within(name: str, text: str, at: int) -> tuple[str, int]:
    try:
        _, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        raise InvalidValue(f"{name}: {shown(text[at:])} does not begin with JSON.", remedy=_JSON) from None
    return text[at:end], end


_JSON = 'For example cs.["Chai"] or cs.{"colour":"red"}.'


def _malformed(name: str, text: str, at: int) -> InvalidParameter:
    rest = f"at {shown(text[at:])}" if at < len(text) else "at its end"
    return InvalidParameter(
        f"{name}={shown(text)} cannot be read {rest}.",
        remedy="For example or=(total.gt.100,and(status.eq.open,name.like.A*)); "
        "a value with a comma or a parenthesis stands in double quotes.",
    )
