"""Grants: what a role may see, declared beside views, as plain data.

    grants = [
        grant(order_overview, "sales"),
        grant(order_overview, "customer", columns=["total"], where=claim("customer_id") == column("customer_id")),
    ]

Nobody may see what is granted to none of their roles. Several grants of a role, or of several roles, add up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NewType

from mesh_core.model.entity import Entity, EntityModel
from mesh_core.model.errors import DeclarationError
from mesh_core.model.identifiers import name_problem
from mesh_core.model.shapes import a_list, a_text, an_object, only, some_names
from mesh_core.model.types import ColumnType
from mesh_core.model.view import CustomView, View
from mesh_core.model.view_model import ViewModel

Resource = NewType("Resource", str)
"""`view:NAME`, `entity:SERVICE.ENTITY`, `workflows`, `relations`, `timeline`, `contracts` or `publish:SERVICE`."""
WORKFLOWS = Resource("workflows")
"""Looking up workflows: the entries of what the role may see."""
RELATIONS = Resource("relations")
"""Which entities there are, of those that the role may see, and how they can be joined."""
TIMELINE = Resource("timeline")
"""The events of what the role may see."""
CONTRACTS = Resource("contracts")
"""The contracts of all services."""
MAX_CONDITIONS = 20
MAX_RULES = 50
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", re.ASCII)
_CLAIM = re.compile(r"\S{1,200}")


def publishing(service: str) -> Resource:
    """Publishing events of a service; those of `mesh` generate workflows and register entries."""
    return Resource(f"publish:{service}")


@dataclass(frozen=True, slots=True)
class GrantCondition:
    """Of a row: its `column` equals a claim of the token or a `value`, or (`in`) is one of a claim that is a list.

    Where the token has no such claim, or one that cannot be compared, it does not hold.
    """

    column: str
    operator: Literal["eq", "in"]
    claim: str | None = None
    value: str | int | bool | None = None

    def to_json(self) -> dict[str, Any]:
        """It as plain JSON."""
        told = {"claim": self.claim} if self.claim is not None else {"value": self.value}
        return {"column": self.column, "op": self.operator, **told}


@dataclass(frozen=True, slots=True)
class Where:
    """Conditions that must all hold; join more with `&`."""

    conditions: tuple[GrantCondition, ...]

    def __and__(self, other: Where) -> Where:
        return Where(self.conditions + other.conditions)

    def __bool__(self) -> bool:
        raise DeclarationError("A condition has no truth value in Python.", remedy="Combine with &, not and.")


class claim:  # noqa: N801  # it reads as a word of the declaration
    """A claim of the token: `claim("tenant") == column("tenant_id")`. A path of dots leads into objects."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> Where:  # type: ignore[override]  # it builds a condition
        if isinstance(other, column):
            return Where((GrantCondition(other.name, "eq", claim=self.name),))
        raise DeclarationError("A claim is compared with a column.", remedy='claim("a") == column("b")')

    __hash__ = object.__hash__


class column:  # noqa: N801  # it reads as a word of the declaration
    """A column of what is granted: `column("country") == "DE"`, `column("tenant_id").in_(claim("tenants"))`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> Where:  # type: ignore[override]  # it builds a condition
        if isinstance(other, claim):
            return Where((GrantCondition(self.name, "eq", claim=other.name),))
        if isinstance(other, str | int):
            return Where((GrantCondition(self.name, "eq", value=other),))
        raise DeclarationError("A column is compared with a claim, a text, a whole number or a bool.")

    __hash__ = object.__hash__

    def in_(self, wanted: claim) -> Where:
        """Whether the column is one of a claim that is a list."""
        return Where((GrantCondition(self.name, "in", claim=wanted.name),))


@dataclass(frozen=True, slots=True)
class GrantModel:
    """What `role` may see of `resource`: these `columns` besides the key (None: all), of rows where all of `where` hold."""

    resource: str
    role: str
    columns: tuple[str, ...] | None = None
    where: tuple[GrantCondition, ...] = ()

    def gives(self, name: str) -> bool:
        """Whether a column is among those granted."""
        return self.columns is None or name in self.columns

    def to_json(self) -> dict[str, Any]:
        """It as plain JSON."""
        columns = None if self.columns is None else list(self.columns)
        return {
            "resource": self.resource,
            "role": self.role,
            "columns": columns,
            "where": [condition.to_json() for condition in self.where],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GrantModel:
        """What `to_json` wrote."""
        columns = data.get("columns")
        return cls(
            data["resource"],
            data["role"],
            None if columns is None else tuple(columns),
            tuple(
                GrantCondition(told["column"], told["op"], told.get("claim"), told.get("value"))
                for told in data.get("where", ())
            ),
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """A declared grant: keep it in a list of its module, or under a name."""

    model: GrantModel


def grant(
    to: View[Any] | CustomView[Any] | type[Entity] | Resource,
    role: str,
    /,
    *,
    columns: Sequence[str] | None = None,
    where: Where | None = None,
) -> Grant:
    """What `role` may see: of a view or an entity these `columns` (None: all), and its key, of rows `where` it holds.

    A grant of an entity guards it: of what is joined from it to any view, only roles with a grant of it see something.
    Raises DeclarationError.
    """
    if isinstance(to, View | CustomView):
        resource = f"view:{to.model.name}"
    elif isinstance(to, type):
        resource = f"entity:{to.model.name}"
    else:
        resource = to
    named = None if columns is None else tuple(columns)
    return Grant(_checked(GrantModel(resource, role, named, () if where is None else where.conditions)))


def rules_from_data(resource: str, role: str, data: Any) -> tuple[GrantModel, ...]:
    """The grants that `data` tells of a role: a list of `columns` and `where`. Raises DeclarationError."""
    where = f"{role} on {resource}"
    rules = a_list(f"{where}: rules", data)
    if len(rules) > MAX_RULES:
        raise DeclarationError(f"{where}: {len(rules)} rules; at most {MAX_RULES}.")
    found = []
    for rule in rules:
        told = an_object(f"{where}: a rule", rule)
        only(where, told, ("columns", "where"))
        columns = told.get("columns")
        conditions = tuple(
            _condition(where, each) for each in a_list(f"{where}: where", told.get("where") or [])
        )
        named = None if columns is None else some_names(f"{where}: columns", columns)
        found.append(_checked(GrantModel(resource, role, named, conditions)))
    if not found:
        _checked(GrantModel(resource, role))
    return tuple(found)


def check_grant(
    made: GrantModel, entities: Mapping[str, EntityModel], views: Mapping[str, ViewModel]
) -> None:
    """Whether there is what is granted. Raises DeclarationError naming what there is not."""
    kind, _, name = made.resource.partition(":")
    if kind not in ("view", "entity"):
        return
    known: Mapping[str, EntityModel] | Mapping[str, ViewModel] = views if kind == "view" else entities
    if name not in known:
        raise DeclarationError(
            f"The role {made.role} is granted the {kind} {name}, which there is not.",
            remedy=f"There are {', '.join(known) or 'none'}.",
        )
    types = {each.name: each.type for each in known[name].columns}
    where = f"The grant of {name} to {made.role}"
    for needed in (*(made.columns or ()), *(condition.column for condition in made.where)):
        if needed not in types:
            raise DeclarationError(
                f"{where} names the column {needed!r}, which it does not have.",
                remedy=f"Its columns: {', '.join(types)}.",
            )
    for condition in made.where:
        _check_type(where, condition, types[condition.column])


def resource_problem(resource: str) -> str | None:
    """Why nothing can be granted under this name, or None when it can."""
    kind, colon, name = resource.partition(":")
    if not colon:
        return None if kind in (WORKFLOWS, RELATIONS, TIMELINE, CONTRACTS) else f"{resource!r} is no resource"
    if kind == "view":
        return name_problem(name)
    if kind == "publish":
        return name_problem(name)
    if kind == "entity":
        service, _, entity = name.partition(".")
        return name_problem(service) or name_problem(entity)
    return f"{resource!r} is no resource"


def role_problem(role: str) -> str | None:
    """Why a role cannot have this name, or None when it can."""
    if not _ROLE.fullmatch(role):
        return f"{role!r} is not 1 to 64 letters, digits or _.:- that begin with a letter or digit"
    return None


def sorted_grants(grants: Collection[GrantModel]) -> tuple[GrantModel, ...]:
    """In one order, each once."""
    return tuple(sorted(set(grants), key=lambda made: (made.resource, made.role, str(made.to_json()))))


def _checked(made: GrantModel) -> GrantModel:
    """It by itself, whatever there is. Raises DeclarationError."""
    if problem := resource_problem(made.resource):
        raise DeclarationError(
            f"{problem}.",
            remedy="It is view:NAME, entity:SERVICE.ENTITY, workflows, relations, timeline, contracts or publish:SERVICE.",
        )
    if problem := role_problem(made.role):
        raise DeclarationError(f"A role cannot be granted anything: {problem}.")
    if made.role == "admin":
        raise DeclarationError(
            "The role admin may do everything already.", remedy="Grant it to another role."
        )
    if made.resource.partition(":")[0] not in ("view", "entity") and (made.columns is not None or made.where):
        raise DeclarationError(f"{made.resource} has no columns or rows.", remedy="Grant it without them.")
    if made.columns is not None and len(set(made.columns)) < len(made.columns):
        made = replace(made, columns=tuple(dict.fromkeys(made.columns)))
    if len(made.where) > MAX_CONDITIONS:
        raise DeclarationError(f"A grant has {len(made.where)} conditions; at most {MAX_CONDITIONS}.")
    for condition in made.where:
        if condition.claim is not None and not _CLAIM.fullmatch(condition.claim):
            raise DeclarationError(f"{condition.claim!r} cannot be the name of a claim.")
    return made


def _condition(where: str, data: Any) -> GrantCondition:
    told = an_object(f"{where}: a condition", data)
    only(where, told, ("column", "op", "claim", "value"), required=("column", "op"))
    if told["op"] not in ("eq", "in"):
        raise DeclarationError(f"{where}: {told['op']!r} is no operator of a grant: eq or in.")
    if ("claim" in told) == ("value" in told):
        raise DeclarationError(f"{where}: a condition has a claim or a value.")
    name = a_text(f"{where}: column", told["column"])
    if "claim" in told:
        return GrantCondition(name, told["op"], claim=a_text(f"{where}: claim", told["claim"]))
    if told["op"] == "in" or not isinstance(told["value"], str | int):
        raise DeclarationError(f"{where}: a value is a text, a whole number or a bool, compared by eq.")
    return GrantCondition(name, "eq", value=told["value"])


def _check_type(where: str, condition: GrantCondition, kind: ColumnType) -> None:
    if kind.kind in ("json", "float", "timestamptz"):
        raise DeclarationError(f"{where}: {condition.column} is {kind.kind}, which no claim equals.")
    if condition.claim is None:
        value = condition.value
        fits = {
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "numeric": isinstance(value, int) and not isinstance(value, bool),
        }.get(kind.kind, isinstance(value, str))
        if not fits:
            raise DeclarationError(f"{where}: {condition.column} is {kind.kind}, and {value!r} is not.")
