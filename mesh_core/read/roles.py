"""Roles and what they are granted: what is declared, and what is said centrally in its place, by whom and when."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mesh_core.model.builtin import MESH_TOPIC, ROLE, ROLE_GRANT
from mesh_core.model.grants import GrantModel, check_grant
from mesh_core.model.view_model import ViewModel
from mesh_core.read.catalogue import Facts
from mesh_core.read.compiler import Statement, head_values, headed
from mesh_core.read.database import Reader
from mesh_core.read.errors import NotDeployed
from mesh_core.read.versions import Live, Version
from mesh_core.store.grants import problem

_COLUMNS: Mapping[str, str] = {
    ROLE: "role, doc, suspended, changed_at, changed_by",
    ROLE_GRANT: "role, resource, rules, changed_at, changed_by",
}


async def roles(reader: Reader) -> Facts:
    """Every role that is granted something or of which something is said centrally, with its grants."""
    _, position, age, said, grants = await _read(reader)
    names = sorted({*said, *(each["role"] for each in grants)})
    unsaid = {"doc": "", "suspended": False, "changed_at": None, "changed_by": None}
    document = [
        {"role": name}
        | unsaid
        | said.get(name, {})
        | {"grants": [_without_role(each) for each in grants if each["role"] == name]}
        for name in names
    ]
    return Facts(document, position, age)


async def grants(reader: Reader) -> Facts:
    """What holds: for each role and resource its rules, whether they are `declared` or `central`, and why not, if they do not."""
    _, position, age, _, found = await _read(reader)
    return Facts(found, position, age)


async def check_grants(reader: Reader, made: Sequence[GrantModel]) -> None:
    """Whether there is what is granted, of what is deployed now. Raises DeclarationError."""

    def statement(live: Live) -> Statement:
        for each in made:
            check_grant(each, live.declared, _views(live))
        return Statement(headed("1").encode(), head_values((), ()))

    await reader.read(statement)


def _views(live: Live) -> Mapping[str, ViewModel]:
    return {name: each.model for name, each in live.views.items() if isinstance(each.model, ViewModel)}


async def _read(
    reader: Reader,
) -> tuple[Live, str, float | None, dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """The live versions, position, age, what is said of roles by name, the grants."""
    live, row = await reader.read(_statement)
    _, position, age, declared, said, central = row
    roles = {told["role"]: told for told in json.loads(said)}
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for rule in json.loads(declared):
        at = rule.pop("role"), rule.pop("resource")
        made.setdefault(at, {"rules": [], "origin": "declared", "changed_at": None, "changed_by": None})[
            "rules"
        ].append(rule)
    for told in json.loads(central):
        made[told.pop("role"), told.pop("resource")] = {**told, "origin": "central"}
    return (
        live,
        position,
        age,
        roles,
        [
            {
                "role": role,
                "resource": resource,
                **told,
                "inert": _inert(live, roles, role, resource, told["rules"]),
            }
            for (role, resource), told in sorted(made.items())
        ],
    )


def _statement(live: Live) -> Statement:
    def rows(entity: str) -> str:
        try:
            version: Version = live.own[entity]
        except KeyError:
            raise NotDeployed(remedy="Run mesh deploy.") from None
        return f"(SELECT coalesce(json_agg(r), '[]')::text FROM (SELECT {_COLUMNS[entity]} FROM {version.rows}) AS r)"

    declared = "(SELECT coalesce(json_agg(data ORDER BY data), '[]')::text FROM mesh.declared_grants)"
    text = headed(f"{declared}, {rows(ROLE)}, {rows(ROLE_GRANT)}")
    return Statement(text.encode(), head_values((), (MESH_TOPIC,)))


def _inert(
    live: Live,
    roles: Mapping[str, Mapping[str, Any]],
    role: str,
    resource: str,
    rules: Any,
) -> str | None:
    """Why a grant has no effect, if it has none."""
    if roles.get(role, {}).get("suspended"):
        return f"The role {role} is suspended."
    return problem(role, resource, rules, live.declared, _views(live))


def _without_role(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "role"}
