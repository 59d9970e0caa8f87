"""All grants that hold, as of one generation: the declared ones, and what is said centrally in their place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mesh_core.model.errors import DeclarationError
from mesh_core.model.grants import GrantModel, rules_from_data

REMEMBERED = 1000
Held = Mapping[str, tuple[GrantModel, ...]]
"""Grants of some roles by resource."""


@dataclass(frozen=True)
class Grants:
    """Grants by role; roles without any have none."""

    by_role: Mapping[str, Held] = field(default_factory=dict)
    guarded: frozenset[str] = frozenset()
    """Entities of which somebody is granted something, or was to be: of what is joined from them others see nothing."""
    _claims: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        declared: Sequence[Mapping[str, Any]],
        suspended: Collection[str],
        central: Sequence[Mapping[str, Any]],
    ) -> Grants:
        """Of what is declared, but where something is said centrally of the same role and resource; as plain data.

        Whatever was written to `mesh.events` is folded, so what is said centrally and cannot be read gives nothing.
        """
        made = [GrantModel.from_json(data) for data in declared]
        said = {(each["role"], each["resource"]): each["rules"] for each in central}
        kept = [each for each in made if (each.role, each.resource) not in said]
        for (role, resource), rules in said.items():
            with suppress(DeclarationError):
                kept += rules_from_data(resource, role, rules)
        by_role: dict[str, dict[str, tuple[GrantModel, ...]]] = {}
        for each in kept:
            if each.role not in suspended:
                held = by_role.setdefault(each.role, {})
                held[each.resource] = (*held.get(each.resource, ()), each)
        resources = [*(each.resource for each in made), *(resource for _, resource in said)]
        guarded = frozenset(name.removeprefix("entity:") for name in resources if name.startswith("entity:"))
        return cls(by_role, guarded)

    def claims_of(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the claims that the grants of these roles compare; remembered, as every read asks."""
        found = self._claims.get(roles)
        if found is None:
            if len(self._claims) >= REMEMBERED:
                self._claims.clear()
            names = {
                each.claim for grants in self.held(roles).values() for made in grants for each in made.where
            }
            found = self._claims[roles] = tuple(sorted(name for name in names if name))
        return found

    def held(self, roles: Iterable[str]) -> Held:
        """What these roles have together."""
        found: dict[str, tuple[GrantModel, ...]] = {}
        for role in roles:
            for resource, grants in self.by_role.get(role, {}).items():
                found[resource] = (*found.get(resource, ()), *grants)
        return found
