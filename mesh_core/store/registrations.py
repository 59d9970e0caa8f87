"""The views that are registered as data, as the projector has folded them."""

from __future__ import annotations

from typing import Any

import psycopg

from mesh_core.model.builtin import REGISTERED
from mesh_core.model.catalog import Catalog
from mesh_core.store.tables import physical


def registered_catalog(connection: psycopg.Connection[Any], code: Catalog) -> Catalog:
    """What the code declares, and the views that are registered: what deploys, plans and prunes go by.

    Raises DeclarationError that names a registered view which does not fit the code.
    """
    relation = registrations(connection)
    if relation is None:
        return code
    rows = connection.execute(f"SELECT name, declaration FROM {physical(relation)} ORDER BY name").fetchall()
    return code.with_registered(dict(rows))


def registrations(connection: psycopg.Connection[Any]) -> str | None:
    """The table of registered views that serves; None before the first deploy that knows of them."""
    row = connection.execute(
        "SELECT relation FROM mesh.versions WHERE kind = 'entity' AND name = %s AND state = 'live'",
        (REGISTERED,),
    ).fetchone()
    return str(row[0]) if row else None
