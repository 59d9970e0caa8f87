"""Adding events to an outbox: by a SQLAlchemy session, or on a connection of psycopg."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, registry

from mesh_core.emit.envelope import check_is_event, envelope_of, record_of
from mesh_core.emit.outbox.tables import ExactJson, split_name
from mesh_core.errors import MeshError
from mesh_core.log.cloudevents import checked
from mesh_core.model import Event

_COLUMNS = (
    "id",
    "aggregatetype",
    "aggregateid",
    "type",
    "payload",
    "workflow_id",
    "headers",
    "aggregateversion",
)
_OWN = {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "workflowid", "data"}
"""Attributes that have a column, or that the relay gives."""


class VersionConflict(MeshError):
    """Somebody else changed the aggregate first."""


class OutboxSession(Session):
    """A Session whose `add_event` writes events in its transaction.

    `sessionmaker(engine, class_=OutboxSession, info={"outbox": table})`, where `table` is what `outbox_table`
    answered. For asyncio, see `mesh_core.emit.outbox.asynchronous`.
    """

    def add_event(
        self,
        event: Event,
        *,
        key: str | None = None,
        expected_version: int | None = None,
        workflow_id: UUID | str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        tenant_id: str | None = None,
        time: datetime | None = None,
        id: UUID | None = None,  # noqa: A002 - the name that CloudEvents gives it
    ) -> UUID:
        """Publish the event if, and once, this transaction commits; answer the event's id.

        `expected_version` is how many events the aggregate had when it was loaded, 0 for a new one: of two that
        expect the same, the second meets VersionConflict at its flush or commit. The rest is as for
        `Publisher.publish`. Raises EnvelopeError, UsageError.
        """
        row = _row(
            event, key, expected_version, workflow_id, correlation_id, causation_id, tenant_id, time, id
        )
        table = self.info.get("outbox")
        if not isinstance(table, sa.Table):
            raise MeshError(
                "The session knows of no outbox.",
                remedy='Give sessionmaker(…, info={"outbox": outbox_table(metadata)}).',
            )
        self.add(_mapped(table)(**row))
        identifier = row["id"]
        assert isinstance(identifier, UUID)
        return identifier

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """As Session's. Raises VersionConflict where an event's expected version is not the aggregate's any more."""
        try:
            super().flush(objects)
        except IntegrityError as error:
            table = self.info.get("outbox")
            cause = error.orig
            if (
                isinstance(table, sa.Table)
                and isinstance(cause, psycopg.errors.UniqueViolation)
                and cause.diag.constraint_name == f"{table.name}_version"
            ):
                raise _conflict(cause) from error
            raise


def add_event(
    connection: psycopg.Connection[Any],
    event: Event,
    *,
    table: str = "outbox",
    key: str | None = None,
    expected_version: int | None = None,
    workflow_id: UUID | str | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    tenant_id: str | None = None,
    time: datetime | None = None,
    id: UUID | None = None,  # noqa: A002 - the name that CloudEvents gives it
) -> UUID:
    """As `OutboxSession.add_event`, in the transaction of a connection of psycopg, for the outbox `[schema.]table`.

    Raises EnvelopeError, UsageError, and VersionConflict at once.
    """
    row = _row(event, key, expected_version, workflow_id, correlation_id, causation_id, tenant_id, time, id)
    encode = ExactJson().bind_processor(None)  # type: ignore[arg-type]  # which it does not ask
    values = row | {"payload": encode(row["payload"]), "headers": Jsonb(row["headers"])}
    schema, name = split_name(table)
    names = (*_COLUMNS, "occurred_at")
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(*filter(None, (schema, name))),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(map(sql.Placeholder, names)),
    )
    try:
        connection.execute(statement, values)
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name == f"{name}_version":
            raise _conflict(error) from error
        raise
    identifier = row["id"]
    assert isinstance(identifier, UUID)
    return identifier


def _row(
    event: Event,
    key: str | None,
    expected_version: int | None,
    workflow_id: UUID | str | None,
    correlation_id: str | None,
    causation_id: str | None,
    tenant_id: str | None,
    time: datetime | None,
    identifier: UUID | None,
) -> dict[str, Any]:
    """The row of the event. Raises EnvelopeError for what the relay could not publish, UsageError for what is no Event."""
    check_is_event(event)
    found = checked(
        envelope_of(
            event,
            source=f"/{event.service}",
            key=key,
            workflow_id=workflow_id,
            correlation_id=correlation_id,
            causation_id=causation_id,
            tenant_id=tenant_id,
            time=time,
            id=identifier,
        )
    )
    record_of(found)
    return {
        "id": UUID(found["id"]),
        "aggregatetype": event.contract.entity,
        "aggregateid": found["subject"],
        "type": found["type"],
        "payload": found["data"],
        "workflow_id": UUID(found["workflowid"]) if "workflowid" in found else None,
        "headers": {name: value for name, value in found.items() if name not in _OWN},
        "aggregateversion": None if expected_version is None else expected_version + 1,
        "occurred_at": time or datetime.now(UTC),
    }


def _mapped(table: sa.Table) -> type[Any]:
    """The class of the table's rows, made once, so that what a savepoint rolls back is rolled back with it."""
    found: type[Any] | None = table.info.get("mesh_row")
    if found is None:
        found = type("OutboxRow", (_OutboxRow,), {})
        registry(metadata=table.metadata).map_imperatively(found, table)
        table.info["mesh_row"] = found
    return found


class _OutboxRow:
    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)


def _conflict(error: psycopg.errors.UniqueViolation) -> VersionConflict:
    return VersionConflict(
        f"Somebody else changed the aggregate first: {error.diag.message_detail or ''}".strip(),
        remedy="Load it again and decide anew.",
    )
