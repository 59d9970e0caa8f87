"""The views and contracts that are registered as data, as the projector has folded them."""

from __future__ import annotations

from typing import Any

import psycopg

from mesh_core.contracts import contracts_of
from mesh_core.model.builtin import REGISTERED, SERVICE_CONTRACTS
from mesh_core.model.catalog import Catalog
from mesh_core.model.event import Contract
from mesh_core.store.tables import physical
from mesh_core.store.versions import served_contracts, version_rows


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
    return _serving(connection, REGISTERED)


def _serving(connection: psycopg.Connection[Any], entity: str) -> str | None:
    row = connection.execute(
        "SELECT relation FROM mesh.versions WHERE kind = 'entity' AND name = %s AND state = 'live'",
        (entity,),
    ).fetchone()
    return str(row[0]) if row else None


def folded_contracts(connection: psycopg.Connection[Any]) -> dict[str, Contract]:
    """The contracts of what live entities fold, by event type."""
    return {each.type: each for each in served_contracts(version_rows(connection, "live"))}


def registered_contracts(connection: psycopg.Connection[Any]) -> dict[str, Contract]:
    """The contracts that services have registered, by event type. Raises SchemaNotUnderstood for one that is none."""
    relation = _serving(connection, SERVICE_CONTRACTS)
    if relation is None:
        return {}
    rows = connection.execute(
        f"SELECT service, contracts FROM {physical(relation)} ORDER BY service"
    ).fetchall()
    return {each.type: each for service, schemas in rows for each in contracts_of(service, schemas)}
