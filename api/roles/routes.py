"""`/v1/admin/roles` and `/v1/admin/grants`: what is said here holds in place of what is declared."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.answers import document_answer, facts_answer
from api.bodies import read_body
from api.context import Admin, Context, only_known
from api.problems import documented
from api.roles import documents
from mesh_core import read
from mesh_core.model.builtin import GrantMade, GrantRevoked, RoleDefined, RoleForgotten
from mesh_core.model.grants import rules_from_data

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(only_known)])
MAX_DOC = 2000


@router.get("/roles", operation_id="list_roles", responses=documents.ROLES | documented(400, 403))
async def list_roles(request: Request, mesh: Context, subject: Admin) -> Response:
    """Every role that is granted something or of which something is said, with its grants."""
    return facts_answer(request, await read.roles(mesh.database.as_seen_by(subject)))


@router.put(
    "/roles/{role}",
    operation_id="say_role",
    openapi_extra=documents.ROLE_BODY,
    responses=documents.ROLE_SAID | documented(400, 403, 413, 415, 422),
)
async def say_role(role: str, request: Request, mesh: Context, subject: Admin) -> Response:
    """Say what a role is, or that nobody has it for now, as an event on `mesh.events`."""
    said = await read_body(request, documents.RoleSaid, documents.RoleSaid())
    rules_from_data("workflows", role, [])
    body = {
        "role": role,
        "doc": said.doc[:MAX_DOC],
        "suspended": said.suspended,
        "changed_by": subject.name,
    }
    position = await mesh.publishing.publish(RoleDefined.model_validate(body))
    return document_answer(body, position.to_header())


@router.delete(
    "/roles/{role}",
    operation_id="forget_role",
    responses=documents.FORGOTTEN | documented(400, 403, 422),
)
async def forget_role(role: str, mesh: Context, subject: Admin) -> Response:
    """Say nothing of the role any more; its grants stay."""
    rules_from_data("workflows", role, [])
    body = {"role": role, "changed_by": subject.name}
    position = await mesh.publishing.publish(RoleForgotten.model_validate(body))
    return document_answer(body, position.to_header())


@router.get("/grants", operation_id="list_grants", responses=documents.GRANTS | documented(400, 403))
async def list_grants(request: Request, mesh: Context, subject: Admin) -> Response:
    """What each role may see of each resource, whether that is declared or said here, and if it has no effect why."""
    return facts_answer(request, await read.grants(mesh.database.as_seen_by(subject)))


@router.put(
    "/grants/{role}/{resource}",
    operation_id="make_grant",
    openapi_extra=documents.GRANT_BODY,
    responses=documents.GRANT_SAID | documented(400, 403, 413, 415, 422),
)
async def make_grant(role: str, resource: str, request: Request, mesh: Context, subject: Admin) -> Response:
    """Say what a role may see of a resource, in place of what is declared; no rules: nothing.

    It holds for every API process as soon as its event is applied: once `Mesh-Position` is reached.
    """
    said = await read_body(request, documents.GrantSaid, documents.GrantSaid([]))
    made = rules_from_data(resource, role, said.rules)
    await read.check_grants(mesh.database.as_seen_by(subject), made)
    rules = [_rule(each.to_json()) for each in made]
    body = {"role": role, "resource": resource, "rules": rules, "changed_by": subject.name}
    position = await mesh.publishing.publish(GrantMade.model_validate(body))
    return document_answer(body, position.to_header())


@router.delete(
    "/grants/{role}/{resource}",
    operation_id="revoke_grant",
    responses=documents.REVOKED | documented(400, 403, 422),
)
async def revoke_grant(role: str, resource: str, mesh: Context, subject: Admin) -> Response:
    """Say nothing of what a role may see of a resource any more: what is declared holds again."""
    rules_from_data(resource, role, [])
    body = {"role": role, "resource": resource, "changed_by": subject.name}
    position = await mesh.publishing.publish(GrantRevoked.model_validate(body))
    return document_answer(body, position.to_header())


def _rule(told: dict[str, Any]) -> dict[str, Any]:
    return {"columns": told["columns"], "where": told["where"]}
