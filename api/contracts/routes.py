"""`/v1/services/{service}/contracts`, and `/asyncapi.json` with a page that shows it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.answers import document_answer, row_answer
from api.bodies import read_body
from api.context import Context, Demanded, Reading, may_publish, only_known
from api.contracts import documents
from api.problems import IncompatibleContracts, InvalidBody, documented
from api.views.documents import DEMAND
from mesh_core import read
from mesh_core.contracts import Change, Mode, contracts_of, differences
from mesh_core.model import DeclarationError
from mesh_core.model.builtin import ContractsRegistered, ContractsRemoved

router = APIRouter(
    prefix="/v1/services/{service}/contracts", tags=["contracts"], dependencies=[Depends(only_known)]
)


@router.get(
    "",
    operation_id="get_contracts",
    openapi_extra={"parameters": DEMAND},
    responses=documents.REGISTERED | documented(400, 403, 404, 409, 504),
)
async def get_contracts(service: str, request: Request, reader: Reading, demand: Demanded) -> Response:
    """The contracts that a service has registered; those of the code are in `/asyncapi.json` alone."""
    await may_publish(reader, service)
    return row_answer(request, await read.service_contracts(reader, service, demand))


@router.put(
    "",
    operation_id="register_contracts",
    openapi_extra=documents.CONTRACTS,
    responses=documents.REGISTERED_NOW | documented(400, 403, 413, 415, 422) | documents.INCOMPATIBLE,
)
async def register_contracts(
    service: str,
    request: Request,
    mesh: Context,
    reader: Reading,
    compatibility: Annotated[
        Literal["full", "backward", "forward", "none"] | None,
        Query(description="What a change may not break; `full` if it is not said."),
    ] = None,
) -> Response:
    """Register all contracts of a service, in place of those that it had, as an event on `mesh.events`.

    They are refused where they break those that hold now, in the way that `compatibility` says. A topic that the service
    has not yet is made.
    """
    await may_publish(reader, service)
    schemas = _schemas(await read_body(request, dict[str, Any], {}))
    contracts = await asyncio.to_thread(contracts_of, service, schemas)
    known = await mesh.registry.known(surely=True)
    if declared := sorted({each.type for each in contracts} & set(known.code)):
        raise DeclarationError(f"{declared[0]} is declared in the code.", remedy="Change it there.")
    of_code = [each for each in known.code.values() if each.service == service]
    held = [each for each in known.every.values() if each.service == service]
    changes = await asyncio.to_thread(differences, held, [*of_code, *contracts])
    if compatibility != "none":
        _refuse_breaking(changes, compatibility or "full")
    await mesh.registry.make_topics([service])
    subject = reader.subject.name
    body = {"owner": service, "contracts": schemas, "registered_by": subject}
    position = await mesh.publishing.publish(ContractsRegistered.model_validate(body))
    told = {
        "service": service,
        "contracts": schemas,
        "registered_by": subject,
        "changes": list(map(_told, changes)),
    }
    return document_answer(told, position.to_header())


@router.delete(
    "",
    operation_id="remove_contracts",
    openapi_extra={"parameters": DEMAND},
    responses=documents.REMOVED | documented(400, 403, 404, 409, 504),
)
async def remove_contracts(service: str, mesh: Context, reader: Reading, demand: Demanded) -> Response:
    """Let a service have no registered contracts any more: its events are taken no more over HTTP."""
    await may_publish(reader, service)
    await read.service_contracts(reader, service, demand)
    body = {"owner": service, "removed_by": reader.subject.name}
    position = await mesh.publishing.publish(ContractsRemoved.model_validate(body))
    return document_answer({"service": service, "removed_by": reader.subject.name}, position.to_header())


def _schemas(body: dict[str, Any]) -> dict[str, Any]:
    schemas = _plain(body.get("contracts"))
    if schemas == {} and len(body) == 1:
        raise InvalidBody(
            "`contracts` is empty.", remedy="Name one at least; to have none any more, DELETE this path."
        )
    if not isinstance(schemas, dict) or len(body) != 1:
        raise InvalidBody(
            "The body is not an object with `contracts`, and nothing else: JSON Schemas by event type.",
            remedy='For example {"contracts": {"courier.parcel.sent.v1": {"type": "object", "properties": {…}}}}.',
        )
    return schemas


def _plain(value: Any) -> Any:
    """Limits are numbers like any others: an event that carries them would make texts of Decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _refuse_breaking(changes: list[Change], mode: Mode) -> None:
    broken = [(change, why) for change in changes if (why := change.breaks(mode))]
    if broken:
        change, why = broken[0]
        count = f"{len(broken)} changes break others; the first" if len(broken) > 1 else "It breaks others"
        raise IncompatibleContracts(
            f"{count}: {change.type}: {change.what}: {why}.",
            remedy="Declare a new major of the type beside it, or say compatibility=none if nobody reads these events.",
            errors=[{**_told(change), "detail": why} for change, why in broken[:100]],
        )


def _told(change: Change) -> dict[str, Any]:
    return {
        "type": change.type,
        "path": change.path,
        "what": change.what,
        "breaks": {"backward": change.backward, "forward": change.forward},
    }
