"""Lists that are asked for again with other values: what was checked and compiled of the first serves the others.

It takes an eighth of the time of a page to do it anew. Only plain comparisons of columns are known again, without a cursor
or a count; whatever else is, or cannot be a value, goes the whole way and is refused there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from mesh_core.model.types import ColumnKind
from mesh_core.read.compiler import Form, Statement, list_statement
from mesh_core.read.conditions import Comparison
from mesh_core.read.grammar import Paging, Parameters, list_query
from mesh_core.read.queries import ListQuery
from mesh_core.read.values import canonical
from mesh_core.read.versions import Version

REMEMBERED = 200
"""Forms of lists of each version."""
_PLAIN = re.compile(r"(?:eq|neq|gt|gte|lt|lte)\.")
_KEPT = ("select", "order", "limit")


@dataclass(frozen=True, slots=True)
class _Form:
    """What lists that differ in values alone have in common; the values of their filters are bound last."""

    query: ListQuery
    text: bytes
    before: tuple[object, ...]
    form: Form | None
    kinds: tuple[ColumnKind, ...]


class Repeated:
    """Forms of lists by version; those of versions that nobody has any more are forgotten."""

    def __init__(self) -> None:
        self._forms: WeakKeyDictionary[Version, dict[tuple[str, ...], _Form]] = WeakKeyDictionary()

    def statement(
        self, version: Version, parameters: Parameters, paging: Paging
    ) -> tuple[ListQuery, Statement]:
        """The query of a list, perhaps with the values of another, and its own statement. Raises as `list_query`."""
        shape: list[str] = []
        values: list[str] = []
        for name, value in parameters:
            if name in _KEPT:
                shape += (name, value)
            elif (plain := _PLAIN.match(value)) and name in version.columns and not value.endswith(".null"):
                shape += (name, plain[0])
                values.append(value[plain.end() :])
            else:
                return _anew(version, parameters, paging)
        forms = self._forms.setdefault(version, {})
        key = (*shape, str(paging.limit), str(paging.limit_max))
        form = forms.get(key)
        if form is None:
            query, statement = _anew(version, parameters, paging)
            if len(forms) < REMEMBERED and (made := _form(query, statement)):
                forms[key] = made
                statement = replace(statement, form=made.form)
            return query, statement
        try:
            bound = tuple(map(canonical, form.kinds, values))
        except ValueError:
            return _anew(version, parameters, paging)
        return form.query, Statement(form.text, (*form.before, *bound), form.form)


def _anew(version: Version, parameters: Parameters, paging: Paging) -> tuple[ListQuery, Statement]:
    query = list_query(version, parameters, paging)
    return query, list_statement(query)


def _form(query: ListQuery, statement: Statement) -> _Form | None:
    """The form of a list; None where filters are no comparisons that bind one value each."""
    compared = [each for each in query.conditions if isinstance(each, Comparison) and not each.reference.path]
    values = tuple(each.value for each in compared)
    before = statement.parameters[: len(statement.parameters) - len(values)]
    if len(compared) < len(query.conditions) or statement.parameters[len(before) :] != values:
        return None
    end = len(statement.parameters)
    form = Form.of(statement.text, statement.parameters, len(before), end) if values else None
    return _Form(query, statement.text, before, form, tuple(each.reference.kind for each in compared))
