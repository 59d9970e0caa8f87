"""A help desk whose declarations change: clients, their tickets, and what a deploy makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mesh_core.engine.deploy import DeployReport
from mesh_core.model import Catalog, Col, Entity, Event, Key, View, add, delete, many, one, patch, upsert
from mesh_core.model import by_workflow as clients_of
from mesh_core.model.builtin import Workflow
from tests.support.mesh import Mesh

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class ClientSaved(Event, type="desk.client.saved.v1"):
    client_id: str
    name: str
    city: str | None = None
    nickname: str | None = None


class ClientGone(Event, type="desk.client.gone.v1"):
    client_id: str


class TicketOpened(Event, type="desk.ticket.opened.v1"):
    ticket_id: int
    client_id: str
    cost: Decimal


class TicketMoved(Event, type="desk.ticket.moved.v1"):
    ticket_id: int
    client_id: str


class Ticket(Entity, service="desk"):
    ticket_id: Key[int]
    client_id: Col[str]
    cost: Col[Decimal]
    folds = upsert(TicketOpened), patch(TicketMoved)


class TicketPriced(Event, type="desk.ticket.priced.v1"):
    ticket_id: int
    cost: Decimal


class ToolBought(Event, type="shed.tool.bought.v1"):
    tool_id: int
    name: str


class Tool(Entity, service="shed"):
    tool_id: Key[int]
    name: Col[str]
    folds = upsert(ToolBought)


def client(doc: str = "", *, with_city: bool = False, with_nickname: bool = False) -> type[Entity]:
    """The entity as first declared, or as changed later."""
    if with_nickname:

        class Nicknamed(Entity, service="desk", name="client"):
            client_id: Key[str]
            name: Col[str]
            nickname: Col[str | None]
            folds = upsert(ClientSaved), delete(ClientGone)

        return Nicknamed
    if with_city:

        class Changed(Entity, service="desk", name="client"):
            client_id: Key[str]
            name: Col[str]
            city: Col[str | None]
            saves: Col[int]
            folds = upsert(ClientSaved, saves=add(1, window=10_000)), delete(ClientGone)

        return Changed

    class First(Entity, service="desk", name="client"):
        __doc__ = doc
        client_id: Key[str]
        name: Col[str]
        folds = upsert(ClientSaved), delete(ClientGone)

    return First


def catalog(
    *,
    sums: bool = False,
    with_city: bool = False,
    doc: str = "",
    tools: bool = False,
    ticket_list: bool = False,
    by_workflow: bool = False,
    priced: bool = False,
    adding: bool = False,
    with_nickname: bool = False,
    indexed: bool = False,
) -> Catalog:
    declared: Any = client(doc, with_city=with_city, with_nickname=with_nickname)
    tickets = many(Ticket.client_id, declared.client_id)
    columns = {"client_id": declared.client_id, "name": declared.name, "tickets": tickets.count()}
    if sums:
        columns["cost"] = tickets.sum(Ticket.cost)
    if with_city:
        columns |= {"city": declared.city, "saves": declared.saves}
    if with_nickname:
        columns["nickname"] = declared.nickname
    views: list[Any] = [
        View("client_overview", declared, doc=doc, indexes=["name"] if indexed else (), **columns)
    ]
    entities: list[Any] = [declared, Ticket]
    if tools:
        entities.append(Tool)
        views.append(View("tool_list", Tool, tool_id=Tool.tool_id, name=Tool.name))
    if ticket_list:
        owner = one(Ticket.client_id, declared.client_id)
        views.append(
            View(
                "ticket_list", Ticket, ticket_id=Ticket.ticket_id, cost=Ticket.cost, name=owner[declared.name]
            )
        )
    if priced:

        class Price(Entity, service="desk"):
            ticket_id: Key[int]
            cost: Col[Decimal]
            folds = (upsert(TicketPriced),)

        entities.append(Price)
    if adding:

        class Count(Entity, service="desk"):
            client_id: Key[str]
            saves: Col[int]
            folds = (upsert(ClientSaved, saves=add(1)),)

        entities.append(Count)
    if by_workflow:
        clients = clients_of(Workflow, declared).list(declared.name)
        views.append(View("clients_of_workflow", Workflow, workflow_id=Workflow.workflow_id, clients=clients))
    return Catalog.of(entities=entities, views=views)


def say(mesh: Mesh, turns: Sequence[int]) -> None:
    for turn in turns:
        key = f"C{turn % 5}"
        mesh.publish(ClientSaved(client_id=key, name=f"name {turn}", city="Rome"), key)
        mesh.publish(TicketOpened(ticket_id=turn, client_id=key, cost=Decimal("1.5")), turn)
        mesh.publish(TicketMoved(ticket_id=turn, client_id=f"C{turn % 3}"), turn)


def changes(report: DeployReport) -> dict[str, str]:
    return {step.name: step.change for step in report.steps if step.change != "unchanged"}


def relations(mesh: Mesh) -> dict[str, int]:
    """Physical tables by their ids in Postgres: a table that was made anew has another."""
    return dict(
        mesh.query(
            "SELECT relname, oid::bigint FROM pg_class WHERE relnamespace = 'data'::regnamespace AND relkind = 'r'"
        )
    )
