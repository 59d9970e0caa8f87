"""What the mesh itself publishes on `mesh.events`, and the entities folded from it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from annotated_types import Ge, Lt, MaxLen

from mesh_core.model.entity import Col, Entity, Key
from mesh_core.model.event import Event
from mesh_core.model.folds import event_source, event_time, min_, upsert

MESH_SERVICE = "mesh"
MESH_TOPIC = "mesh.events"
ShortName = Annotated[str, MaxLen(40)]
"""Bounded, as all that becomes part of a key must be for Postgres to index it."""


class WorkflowCreated(Event, type="mesh.workflow.created.v1"):
    """A workflow was generated in the mesh."""

    key_fields = ("workflow_id",)
    workflow_id: UUID
    name: str | None = None
    attributes: dict[str, Any] | None = None


class EntryRegistered(Event, type="mesh.entry.registered.v1"):
    """An entry of some service was registered in a workflow by hand."""

    key_fields = ("workflow_id",)
    workflow_id: UUID
    entry_service: ShortName
    entry_entity: ShortName
    entry_key: Annotated[str, MaxLen(512)]


class DeadLetterDecided(Event, type="mesh.dead_letter.decided.v1"):
    """An operator decided what becomes of a dead letter, named by its place in the log.

    `retry` applies it again, `edit` applies `value` (a structured CloudEvent as text) in its place, `discard`
    skips it. Every later build honours the decision.
    """

    key_fields = ("letter_topic", "letter_partition", "letter_offset")
    letter_topic_id: Annotated[str, MaxLen(64)]
    letter_topic: Annotated[str, MaxLen(249)]
    letter_partition: Annotated[int, Ge(0), Lt(2**31)]
    letter_offset: Annotated[int, Ge(0)]
    action: Literal["retry", "edit", "discard"]
    value: str | None = None


class Workflow(Entity, service="mesh"):
    """A UUID that ties together entries of several services."""

    workflow_id: Key[UUID]
    name: Col[str | None]
    attributes: Col[dict[str, Any] | None]
    created_at: Col[datetime]
    created_by: Col[str]
    folds = upsert(WorkflowCreated, created_at=min_(event_time), created_by=event_source)


class WorkflowEntry(Entity, service="mesh", record_key_count=1):
    """One entry of one service in a workflow. `origin` is the topic that registered it.

    Besides this fold, every event with a `workflowid` registers its own (service, entity, key).
    """

    workflow_id: Key[UUID]
    service: Key[str]
    entity: Key[str]
    key: Key[str]
    origin: Key[str]
    registered_at: Col[datetime]
    folds = upsert(
        EntryRegistered,
        service=EntryRegistered.entry_service,
        entity=EntryRegistered.entry_entity,
        key=EntryRegistered.entry_key,
        origin=MESH_TOPIC,
        registered_at=min_(event_time),
    )


BUILT_IN_EVENTS: tuple[type[Event], ...] = (WorkflowCreated, EntryRegistered, DeadLetterDecided)
BUILT_IN_ENTITIES: tuple[type[Entity], ...] = (Workflow, WorkflowEntry)
