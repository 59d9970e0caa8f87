"""Declared grants, as they were last deployed, and what is said centrally in their place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from mesh_core.model.builtin import ROLE_GRANT
from mesh_core.model.entity import EntityModel
from mesh_core.model.errors import DeclarationError
from mesh_core.model.grants import GrantModel, check_grant, rules_from_data, sorted_grants
from mesh_core.model.view_model import ViewModel
from mesh_core.store.tables import physical


def declared(connection: psycopg.Connection[Any]) -> tuple[GrantModel, ...]:
    """What the last deploy declared."""
    rows = connection.execute("SELECT data FROM mesh.declared_grants").fetchall()
    return sorted_grants([GrantModel.from_json(data) for (data,) in rows])


def declare(connection: psycopg.Connection[Any], grants: Collection[GrantModel]) -> bool:
    """Have these declared and no others; whether that is a change. Readers look again once the generation is raised."""
    wanted = sorted_grants(grants)
    if declared(connection) == wanted:
        return False
    connection.execute("DELETE FROM mesh.declared_grants")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO mesh.declared_grants (data) VALUES (%s)",
            [(Jsonb(made.to_json()),) for made in wanted],
        )
    return True


def problem(
    role: str,
    resource: str,
    rules: Any,
    entities: Mapping[str, EntityModel],
    views: Mapping[str, ViewModel],
) -> str | None:
    """Why a grant that is said centrally has no effect, or not all of it, among these entities and views."""
    try:
        for made in rules_from_data(resource, role, rules):
            check_grant(made, entities, views)
    except DeclarationError as error:
        return str(error.args[0])
    return None


def central_problems(
    connection: psycopg.Connection[Any], entities: Mapping[str, EntityModel], views: Mapping[str, ViewModel]
) -> list[str]:
    """A sentence for each grant said centrally that has a `problem` among these entities and views."""
    row = connection.execute(
        "SELECT relation FROM mesh.versions WHERE kind = 'entity' AND name = %s AND state = 'live'",
        (ROLE_GRANT,),
    ).fetchone()
    if row is None:  # before the first deploy that knows of them
        return []
    said = connection.execute(
        f"SELECT role, resource, rules FROM {physical(row[0])} ORDER BY role, resource"
    ).fetchall()
    found = [
        (role, resource, problem(role, resource, rules, entities, views)) for role, resource, rules in said
    ]
    return [
        f"What is said centrally of {role} on {resource} has no effect, or not all of it: {why} "
        f"PUT or DELETE /v1/admin/grants/{role}/{resource} corrects it."
        for role, resource, why in found
        if why is not None
    ]
