"""`/v1/events`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.answers import document_answer, page_answer
from api.context import Context, Demanded, Mesh, Reading, demanded, only_known, subject_of
from api.events import documents
from api.events.binding import read_events
from api.negotiation import MIN_POSITION
from api.problems import BodyTooLarge, EventsRefused, documented, problem_of
from api.views.documents import DEMAND
from mesh_core import read
from mesh_core.contracts import Accepted, Refusal
from mesh_core.errors import MeshError
from mesh_core.log import Position
from mesh_core.telemetry import current

router = APIRouter(prefix="/v1/events", tags=["events"], dependencies=[Depends(only_known)])

Text = Annotated[str | None, Query(min_length=1, max_length=512)]


@router.get(
    "",
    operation_id="list_events",
    openapi_extra={"parameters": DEMAND},
    responses=documents.TIMELINE | documented(400, 403, 410, 422, 504),
)
async def list_events(
    request: Request,
    mesh: Context,
    reader: Reading,
    demand: Demanded,
    workflow: Text = None,
    service: Text = None,
    entity: Text = None,
    type: Text = None,  # noqa: A002  # the name of the parameter
    subject: Text = None,
    limit: str | None = None,
    cursor: str | None = None,
) -> Response:
    """The timeline: events that belong to a workflow in the order of their time, by any of the filters."""
    given = {"workflow": workflow, "service": service, "entity": entity, "type": type, "subject": subject}
    filters = {name: value for name, value in given.items() if value is not None}
    page = await read.timeline(reader, filters, mesh.paging, limit=limit, cursor=cursor, demand=demand)
    return page_answer(request, page)


@router.post(
    "",
    status_code=202,
    operation_id="publish_events",
    openapi_extra=documents.EVENTS_BODY | {"parameters": DEMAND},
    responses=documents.PUBLISHED | documented(400, 403, 413, 415, 422, 504),
)
async def publish_events(request: Request) -> Response:
    """Publish CloudEvents, each once by its `source` and `id`; the answer comes once Kafka has acknowledged all.

    Where one of several is refused none is published; with `Prefer: handling=lenient` all others are. Those that a
    projector could not apply are refused, too. With `Mesh-Min-Position` they are checked by contracts as of then.
    """
    return await _published(request)


class EventsFirst:
    """ASGI middleware. Publishes before what frameworks do around a route, which took two thirds of a small request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._route = Route(router.prefix, _published, methods=["POST"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; what is not plainly for events passes through."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or scope["path"] != router.prefix
            or scope["query_string"]
        ):
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            response = await _published(request)
        except MeshError as error:
            response = problem_of(request, error)
        await response(scope, receive, send)


async def _published(request: Request) -> Response:
    mesh: Mesh = request.app.state.mesh
    subject = await subject_of(request)
    values = await read_events(request, mesh.settings.ingest_bytes_max)
    ids = current()
    defaults = {"correlationid": ids.correlation_id, "traceparent": ids.traceparent}
    given = {name: value for name, value in defaults.items() if value is not None}
    as_of_then = MIN_POSITION in request.headers
    if as_of_then:
        await read.contracts_reflect(mesh.database.as_itself, demanded(request))
    checked = await mesh.ingesting.check(values, given, surely=as_of_then)
    # Who may not publish learns nothing of contracts.
    generation = await mesh.ingesting.authorise(subject, set(filter(None, map(_service, checked))))
    if any(isinstance(each, Refusal) for each in checked):
        # It may be of a contract that was just registered.
        checked = await mesh.ingesting.check(values, given, surely=True)
    accepted = [each for each in checked if isinstance(each, Accepted)]
    lenient = "handling=lenient" in request.headers.get("prefer", "").replace(" ", "").lower().split(",")
    if len(accepted) < len(checked) and not (lenient and accepted):
        raise _refused(checked)
    published = iter(await mesh.ingesting.publish(subject, accepted, generation) if accepted else ())
    told: list[dict[str, object]] = []
    places = []
    for index, each in enumerate(checked):
        if isinstance(each, Refusal):
            told.append({"status": 422, **_error(index, each)})
            continue
        found = next(published)
        places.append((found.place.partition, found.place.offset))
        told.append(
            {
                "status": 202,
                "id": each.id,
                "source": each.source,
                "topic": found.place.partition.topic,
                "partition": found.place.partition.partition,
                "offset": found.place.offset,
                "duplicate": found.duplicate,
            }
        )
    position = Position.after(places)
    body = {"position": position.to_json(), "events": told}
    more = {"Preference-Applied": "handling=lenient"} if lenient else {}
    return document_answer(body, position.to_header(), status=202, **more)


def _service(event: Accepted | Refusal) -> str | None:
    if isinstance(event, Accepted):
        return event.service
    return event.event_type.partition(".")[0] if event.event_type else None


def _error(index: int, refusal: Refusal) -> dict[str, object]:
    return {
        "index": index,
        "id": refusal.event_id,
        "type": refusal.event_type,
        "reason": refusal.reason,
        "detail": refusal.detail,
    }


def _refused(checked: list[Accepted | Refusal]) -> EventsRefused | BodyTooLarge:
    errors = [_error(n, each) for n, each in enumerate(checked) if isinstance(each, Refusal)]
    first = errors[0]
    if len(checked) == 1 and first["reason"] == "too_large":
        return BodyTooLarge(
            str(first["detail"]), remedy="Send a reference to large content instead of the content."
        )
    several = len(checked) > 1
    count = f"{len(errors)} of {len(checked)} events are refused; event {first['index']}: " if several else ""
    others = " Prefer: handling=lenient publishes the others." if len(errors) < len(checked) else ""
    return EventsRefused(
        f"{count}{first['detail']}",
        remedy=f"Correct what `errors` names; the contracts are those of GET /asyncapi.json.{others}",
        errors=errors[:100],
    )
