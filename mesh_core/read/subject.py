"""Who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ADMIN = "admin"
"""The built-in role that may do everything."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks: a `name` (the token's `sub`), the roles it has, and what else its token claims."""

    name: str
    roles: tuple[str, ...]
    """Sorted, without repeats."""
    claims: Mapping[str, Any]
    """The verified claims of the token."""


MESH = Subject("mesh", (ADMIN,), {})
"""The mesh itself."""
