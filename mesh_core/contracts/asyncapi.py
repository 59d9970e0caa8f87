"""The contracts of all topics as an AsyncAPI 3.0 document."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from mesh_core.contracts.schema import json_schema
from mesh_core.model.event import Contract, family, major

VERSION = "3.0.0"
_BINDING = {"bindingVersion": "0.5.0"}


def asyncapi(contracts: Iterable[Contract], *, title: str = "Flexmesh", version: str = "1") -> dict[str, Any]:
    """One channel a topic, one message an event type: the structured CloudEvent, its payload in `data`.

    What a service publishes is an operation that the mesh receives. Schemas use words alone that draft 7 of JSON Schema
    and 2020-12 have in common, since AsyncAPI's own dialect is the former.
    """
    every = sorted(contracts, key=lambda each: (each.topic, each.type))
    newest: dict[str, int] = {}
    for contract in every:
        name = family(contract.type)
        newest[name] = max(major(contract.type), newest.get(name, 0))
    topics = {topic: list(found) for topic, found in groupby(every, attrgetter("topic"))}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "description": "The events of all services: CloudEvents 1.0 on Kafka. The record key is the subject: the key of "
            "what an event is of. Readers pass over fields that they do not know.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic: _channel(topic, found) for topic, found in topics.items()},
        "operations": {
            f"publish_{found[0].service}": {
                "action": "receive",
                "title": f"Events of {found[0].service}",
                "summary": f"Append events of {found[0].service} to {topic}: by Kafka, an outbox, or POST /v1/events.",
                "channel": {"$ref": f"#/channels/{topic}"},
            }
            for topic, found in topics.items()
            if found[0].foreign is None
        },
        "components": {
            "messages": {
                contract.type: _message(contract, newest[family(contract.type)]) for contract in every
            }
        },
    }


def _channel(topic: str, contracts: list[Contract]) -> dict[str, Any]:
    services = ", ".join(sorted({contract.service for contract in contracts}))
    foreign = contracts[0].foreign is not None
    said = (
        {"description": "Its records are no events as they stand: they are read as these."} if foreign else {}
    )
    return {
        "address": topic,
        "title": f"What {services} says",
        **said,
        "messages": {
            contract.type: {"$ref": f"#/components/messages/{contract.type}"} for contract in contracts
        },
        "bindings": {"kafka": {"topic": topic, **_BINDING}},
    }


def _message(contract: Contract, newer: int) -> dict[str, Any]:
    schema = {name: value for name, value in json_schema(contract).items() if name != "$schema"}
    name = family(contract.type)
    doc = contract.doc.strip()
    superseded = [] if newer <= major(contract.type) else [f"Superseded by {name}.v{newer}."]
    said = "\n\n".join(filter(None, [doc, *superseded]))
    return {
        "name": contract.type,
        "title": contract.type,
        **({"summary": doc.split("\n")[0]} if doc else {}),
        **({"description": said} if said else {}),
        **({"x-superseded-by": f"{name}.v{newer}"} if superseded else {}),
        "contentType": "application/cloudevents+json",
        "payload": schema,
        "bindings": {"kafka": {"key": {"type": "string", "maxLength": 512}, **_BINDING}},
    }
