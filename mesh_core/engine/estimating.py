"""What a deploy would cost: what each step reads, and about how long that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg

from mesh_core.engine.planning import Change, Kind, Planned, plan
from mesh_core.engine.settling import settle
from mesh_core.log.interface import Admin, Driver
from mesh_core.log.position import TopicPartition
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.catalog import Catalog
from mesh_core.store import deploys, grants, versions
from mesh_core.store.connections import connect
from mesh_core.store.deploys import Pace
from mesh_core.store.registrations import registered_catalog
from mesh_core.store.tables import ENTRY, physical


@dataclass(frozen=True)
class Cost:
    """One step of a plan. `reads` are topics, or entities of a view; `seconds` None where no build of that size was measured."""

    kind: Kind
    name: str
    change: Change
    details: tuple[str, ...]
    reads: tuple[str, ...] = ()
    events: int | None = None
    rows: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Estimate:
    """A plan with its costs, and what is to be said of it."""

    costs: Sequence[Cost]
    warnings: Sequence[str]


def estimate(database_url: str, catalog: Catalog, driver: Driver) -> Estimate:
    """The plan of a deploy of the catalog, and of what is registered besides, with its costs.

    Reads Kafka's offsets, no record. Raises LogUnavailable, and DeclarationError where a registered view does not fit.
    """
    with connect(database_url, "mesh plan") as connection, closing(driver.admin()) as admin:
        warnings = settle(connection, admin, driver)
        catalog = registered_catalog(connection, catalog)
        rows = versions.version_rows(connection)
        paces = deploys.paces(connection)
        topics = sorted({*catalog.topics, MESH_TOPIC, *(topic for row in rows for topic in row.topics)})
        counts = _counts(admin, driver, topics)
        costs = []
        for step in plan(catalog, rows, granted=grants.declared(connection)).steps:
            if not step.built:
                costs.append(Cost(step.kind, step.name, step.change, step.details))
            elif step.kind == "entity":
                mine = topics if step.name == ENTRY else [catalog.entities[step.name].topic]
                events = sum(counts.get(topic, 0) for topic in mine)
                costs.append(_cost(step, tuple(mine), events, None, paces))
            else:
                model = catalog.views[step.name]
                count = _rows(connection, rows, model.root)
                costs.append(_cost(step, tuple(sorted(model.entities)), None, count, paces))
        warnings += grants.central_problems(connection, catalog.entities, catalog.views)
        return Estimate(costs, warnings)


def _cost(
    step: Planned, reads: tuple[str, ...], events: int | None, rows: int | None, paces: Mapping[str, Pace]
) -> Cost:
    amount, pace = events if rows is None else rows, paces.get(step.kind)
    seconds = pace.seconds(amount) if amount is not None and pace else None
    return Cost(step.kind, step.name, step.change, step.details, reads, events, rows, seconds)


def _counts(admin: Admin, driver: Driver, topics: list[str]) -> dict[str, int]:
    """Records of each topic that is there, aborted ones included."""
    facts = admin.describe(topics)
    partitions = [TopicPartition(name, n) for name, fact in facts.items() for n in range(fact.partitions)]
    consumer = driver.consumer(None)
    try:
        starts, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    finally:
        consumer.close()
    found = dict.fromkeys(facts, 0)
    for partition in partitions:
        found[partition.topic] += ends[partition] - starts[partition]
    return found


def _rows(connection: psycopg.Connection[Any], rows: list[versions.VersionRow], entity: str) -> int | None:
    """About how many rows the live version of an entity has, as Postgres last counted them."""
    live = next((row for row in rows if (row.kind, row.name, row.state) == ("entity", entity, "live")), None)
    if live is None:
        return None
    found = connection.execute(
        "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass",
        (physical(live.relation),),
    ).fetchone()
    return int(found[0]) if found else None
