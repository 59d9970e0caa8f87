"""The contracts that services declare as data, with who did it and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from mesh_core.model.builtin import MESH_TOPIC, SERVICE_CONTRACTS
from mesh_core.read.compiler import Statement, head_values, headed
from mesh_core.read.database import Reader
from mesh_core.read.errors import ContractsNotRegistered, shown
from mesh_core.read.registered import own_feed, own_row
from mesh_core.read.rows import Answer
from mesh_core.read.versions import Live
from mesh_core.read.waiting import NOTHING, Demand, waited


async def service_contracts(reader: Reader, service: str, demand: Demand = NOTHING) -> Answer:
    """What a service has declared. Raises ContractsNotRegistered or another ReadError."""
    return await own_row(
        reader,
        SERVICE_CONTRACTS,
        service,
        demand,
        ContractsNotRegistered(
            f"The service {shown(service)} has registered no contracts.",
            remedy="PUT them here; those just registered are there once Mesh-Position has reached their event.",
        ),
    )


async def contracts_reflect(reader: Reader, demand: Demand) -> None:
    """Wait until what is registered meets the demand. Raises NotReached, TooStale or another ReadError."""
    await waited(reader, demand, partial(own_feed, entity=SERVICE_CONTRACTS))


async def registered_contracts(reader: Reader) -> tuple[int, Mapping[str, Mapping[str, Any]]]:
    """The generation, and by service the JSON Schema of each payload by event type. Raises ReadError."""
    live, row = await reader.read(_statement)
    return live.generation, json.loads(row[-1])


def _statement(live: Live) -> Statement:
    version = live.own.get(SERVICE_CONTRACTS)
    found = "'{}'"
    if version is not None:
        found = (
            f"(SELECT coalesce(json_object_agg(service, contracts), '{{}}')::text FROM {version.rows} AS r)"
        )
    return Statement(headed(found).encode(), head_values((), (MESH_TOPIC,)))
