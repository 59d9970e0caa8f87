"""The contracts of all topics as an AsyncAPI 3.0 document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh_core.contracts.schema import json_schema
from mesh_core.model.event import Contract, topic_of

VERSION = "3.0.0"
_BINDING = {"bindingVersion": "0.5.0"}


def asyncapi(contracts: Iterable[Contract], *, title: str = "Flexmesh", version: str = "1") -> dict[str, Any]:
    """One channel a topic, one message an event type: the structured CloudEvent, its payload in `data`.

    What a service publishes is an operation that the mesh receives. Schemas use words alone that draft 7 of JSON Schema
    and 2020-12 have in common, since AsyncAPI's own dialect is the former.
    """
    of_service: dict[str, list[Contract]] = {}
    for contract in sorted(contracts, key=lambda each: each.type):
        of_service.setdefault(contract.service, []).append(contract)
    every = [contract for found in of_service.values() for contract in found]
    return {
        "asyncapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "description": "The events of all services: CloudEvents 1.0 on Kafka. The record key is the subject: the key of "
            "what an event is of. Readers pass over fields that they do not know.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic_of(service): _channel(service, found) for service, found in of_service.items()},
        "operations": {
            f"publish_{service}": {
                "action": "receive",
                "title": f"Events of {service}",
                "summary": f"Append events of {service} to its topic: by Kafka, an outbox, or POST /v1/events.",
                "channel": {"$ref": f"#/channels/{topic_of(service)}"},
            }
            for service in of_service
        },
        "components": {"messages": {contract.type: _message(contract, every) for contract in every}},
    }


def _channel(service: str, contracts: list[Contract]) -> dict[str, Any]:
    return {
        "address": topic_of(service),
        "title": f"What {service} says",
        "messages": {
            contract.type: {"$ref": f"#/components/messages/{contract.type}"} for contract in contracts
        },
        "bindings": {"kafka": {"topic": topic_of(service), **_BINDING}},
    }


def _message(contract: Contract, every: list[Contract]) -> dict[str, Any]:
    schema = {name: value for name, value in json_schema(contract).items() if name != "$schema"}
    name, _, major = contract.type.rpartition(".v")
    newer = max(int(each.type.rpartition(".v")[2]) for each in every if each.type.startswith(f"{name}.v"))
    doc = contract.doc.strip()
    superseded = [] if newer <= int(major) else [f"Superseded by {name}.v{newer}."]
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
