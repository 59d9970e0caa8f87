"""What the mesh itself publishes on `mesh.events`, and the entities folded from it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from annotated_types import Ge, Lt, MaxLen

from mesh_core.model.entity import Col, Entity, Key
from mesh_core.model.event import Event
from mesh_core.model.folds import delete, event_source, event_time, min_, upsert

MESH_SERVICE = "mesh"
MESH_TOPIC = "mesh.events"
ShortName = Annotated[str, MaxLen(40)]
"""Bounded, as all that becomes part of a key must be for Postgres to index it."""


RoleName = Annotated[str, MaxLen(64)]


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


class ViewRegistered(Event, type="mesh.view.registered.v1"):
    """A view was registered as data, or changed: its declaration as `ViewModel.to_document` gives it."""

    key_fields = ("name",)
    name: ShortName
    declaration: dict[str, Any]
    registered_by: str


class ViewRemoved(Event, type="mesh.view.removed.v1"):
    """A view that was registered as data is declared no more."""

    key_fields = ("name",)
    name: ShortName
    removed_by: str


class RoleDefined(Event, type="mesh.role.defined.v1"):
    """What is said of a role centrally; while it is `suspended` nobody has it."""

    key_fields = ("role",)
    role: RoleName
    doc: str
    suspended: bool
    changed_by: str


class RoleForgotten(Event, type="mesh.role.forgotten.v1"):
    """Nothing is said of the role centrally any more."""

    key_fields = ("role",)
    role: RoleName
    changed_by: str


class GrantMade(Event, type="mesh.grant.made.v1"):
    """What a role may see of a resource is said centrally, in place of what is declared; no rules: nothing."""

    key_fields = ("role", "resource")
    role: RoleName
    resource: Annotated[str, MaxLen(100)]
    rules: list[dict[str, Any]]
    changed_by: str


class GrantRevoked(Event, type="mesh.grant.revoked.v1"):
    """What is declared holds again, if anything is."""

    key_fields = ("role", "resource")
    role: RoleName
    resource: Annotated[str, MaxLen(100)]
    changed_by: str


class ContractsRegistered(Event, type="mesh.contracts.registered.v1"):
    """The contracts of a service that are declared as data, all of them: the JSON Schema of each payload by event type."""

    key_fields = ("owner",)
    owner: ShortName
    contracts: dict[str, Any]
    registered_by: str


class ContractsRemoved(Event, type="mesh.contracts.removed.v1"):
    """A service has no contracts any more that are declared as data."""

    key_fields = ("owner",)
    owner: ShortName
    removed_by: str


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


class RegisteredView(Entity, service="mesh"):
    """A view that is declared as data, beside those of the code."""

    name: Key[str]
    declaration: Col[dict[str, Any]]
    registered_at: Col[datetime]
    registered_by: Col[str]
    folds = upsert(ViewRegistered, registered_at=event_time), delete(ViewRemoved)


class Role(Entity, service="mesh"):
    """What is said of a role centrally."""

    role: Key[str]
    doc: Col[str]
    suspended: Col[bool]
    changed_at: Col[datetime]
    changed_by: Col[str]
    folds = upsert(RoleDefined, changed_at=event_time), delete(RoleForgotten)


class RoleGrant(Entity, service="mesh"):
    """What is said centrally of what a role may see of a resource: rules as a grant's plain data has them."""

    role: Key[str]
    resource: Key[str]
    rules: Col[list[dict[str, Any]]]
    changed_at: Col[datetime]
    changed_by: Col[str]
    folds = upsert(GrantMade, changed_at=event_time), delete(GrantRevoked)


class ServiceContracts(Entity, service="mesh"):
    """The contracts of a service that are declared as data, beside those of the code."""

    service: Key[str]
    contracts: Col[dict[str, Any]]
    registered_at: Col[datetime]
    registered_by: Col[str]
    folds = (
        upsert(ContractsRegistered, service=ContractsRegistered.owner, registered_at=event_time),
        delete(ContractsRemoved, service=ContractsRemoved.owner),
    )


BUILT_IN_EVENTS: tuple[type[Event], ...] = (
    WorkflowCreated,
    EntryRegistered,
    DeadLetterDecided,
    ViewRegistered,
    ViewRemoved,
    RoleDefined,
    RoleForgotten,
    GrantMade,
    GrantRevoked,
    ContractsRegistered,
    ContractsRemoved,
)
BUILT_IN_ENTITIES: tuple[type[Entity], ...] = (
    Workflow,
    WorkflowEntry,
    RegisteredView,
    Role,
    RoleGrant,
    ServiceContracts,
)
REGISTERED = RegisteredView.model.name
ROLE = Role.model.name
ROLE_GRANT = RoleGrant.model.name
SERVICE_CONTRACTS = ServiceContracts.model.name
REMEMBERED = (ROLE, ROLE_GRANT, SERVICE_CONTRACTS)
"""What the API keeps in memory, and looks at again after every change."""
