"""The second lock: what row-level security lets through, from the grants alone, in a form that Postgres checks itself.

It is made apart from the statements, so that a mistake in one is caught by the other. What a policy knows of a row is the
row itself, so only rules on its own columns are here: those of the view's grants, and of the entity that it is rooted in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mesh_core.model.grants import GrantModel
from mesh_core.model.types import ColumnType

Conditions = list[list[Any]]
"""All of [column, [values that it may have, as JSON]]."""
Alternatives = list[Conditions]
"""Any of these."""


def alternatives(
    grants: Iterable[GrantModel],
    types: Mapping[str, ColumnType],
    claim: Callable[[str], Any],
    names: Mapping[str, str],
) -> Alternatives:
    """Rows that any of these grants lets through; `names` are those that the columns have in the row."""
    return [
        [
            [
                names[each.column],
                _values(
                    types[names[each.column]],
                    [each.value] if each.claim is None else _told(each.operator, claim(each.claim)),
                ),
            ]
            for each in grant.where
        ]
        for grant in grants
        if all(names.get(each.column) in types for each in grant.where)
    ]


def setting(rules: Mapping[str, list[Alternatives]]) -> str:
    """What `mesh.rows` is to be: by relation, all of which must let a row through."""
    return json.dumps(rules)


def _told(operator: str, value: Any) -> list[Any]:
    if operator == "eq":
        return [] if isinstance(value, list) else [value]
    return value if isinstance(value, list) else []


def _values(kind: ColumnType, values: Iterable[Any]) -> list[Any]:
    """Those that a column of this kind can have, as a row's JSON has them."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, bool) or kind.kind == "bool":
            found += [value] if kind.kind == "bool" and isinstance(value, bool) else []
        elif kind.kind in ("int", "numeric"):
            try:
                found.append(int(value))
            except (TypeError, ValueError):
                continue
        elif isinstance(value, str):
            found.append(value.lower() if kind.kind == "uuid" else value)
    return found
