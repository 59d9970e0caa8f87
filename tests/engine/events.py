"""Bytes of events of the test domain, good ones and bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

Fault = Literal[
    "not_json",
    "not_utf8",
    "not_a_cloudevent",
    "missing_field",
    "wrong_type",
    "huge_number",
    "nul",
    "surrogate",
    "no_zone",
    "unknown_version",
    "unknown_type",
    "wrong_key",
    "no_key",
    "null",
]
"""What can be wrong with a record for all entities (`unknown_type` is only ignored)."""


@dataclass(frozen=True)
class Said:
    """What a service says of the thing with `key`; `data` with Decimals as numbers."""

    topic: str
    key: str
    type: str
    data: Mapping[str, Any]


def encoded(
    said: Said,
    *,
    event_id: str,
    second: int,
    sequence: int | str | None = None,
    workflow: str | None = None,
    fault: Fault | None = None,
) -> tuple[bytes | None, bytes | None]:
    """The key and value of the record, spoilt by `fault`."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/{said.topic}",
        "type": said.type,
        "subject": said.key,
        "time": _time(second),
        "data": dict(said.data),
    }
    if sequence is not None:
        event["sequence"] = sequence
    if workflow is not None:
        event["workflowid"] = workflow
    first = next(iter(said.data))
    spoil: dict[Fault, Callable[[], Any]] = {
        "not_a_cloudevent": lambda: event.update(specversion="0.3"),
        "missing_field": lambda: event["data"].pop(first),
        "wrong_type": lambda: event["data"].update({first: [1]}),
        "huge_number": lambda: event["data"].update({first: 2**64}),
        "nul": lambda: event["data"].update(extra="a\0b"),
        "surrogate": lambda: event["data"].update(extra="\ud83d"),
        "no_zone": lambda: event.update(time="2026-01-01T00:00:00"),
        "unknown_version": lambda: event.update(type=said.type.replace(".v1", ".v9")),
        "unknown_type": lambda: event.update(type=said.type.replace(".v1", "_quietly.v1")),
    }
    if fault in spoil:
        spoil[fault]()
    value: bytes | None = as_json(event).encode()
    key: bytes | None = said.key.encode()
    match fault:
        case "not_json":
            value = b'{"specversion":'
        case "not_utf8":
            value = b'"\xff"'
        case "null":
            value = None
        case "wrong_key":
            key = b"another"
        case "no_key":
            key = None
    return key, value


def decision(
    topic_id: str, topic: str, partition: int, offset: int, action: str, value: bytes | None, *, number: int
) -> tuple[bytes, bytes]:
    """The record of a decision on a dead letter."""
    event = {
        "specversion": "1.0",
        "id": f"decision-{number}",
        "source": "/operator",
        "type": "mesh.dead_letter.decided.v1",
        "time": _time(number),
        "data": {
            "letter_topic_id": topic_id,
            "letter_topic": topic,
            "letter_partition": partition,
            "letter_offset": offset,
            "action": action,
            "value": None if value is None else value.decode(),
        },
    }
    return f"{topic},{partition},{offset}".encode(), as_json(event).encode()


def as_json(value: Any) -> str:
    """JSON text with Decimals as exact numbers."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{as_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    return json.dumps(value)


def _time(second: int) -> str:
    return f"2026-01-01T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}Z"
