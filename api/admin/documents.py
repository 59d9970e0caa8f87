"""How the state of the API looks in OpenAPI."""

from __future__ import annotations

from typing import Any

_STATE = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"enum": ["alive", "ready", "not ready"]},
        "reasons": {"type": "array", "items": {"type": "string"}},
    },
}


def _state(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _STATE}}}


ALIVE: dict[int | str, Any] = {200: _state("It runs.")}
READY: dict[int | str, Any] = {200: _state("Ready."), 503: _state("Not ready, and why.")}
METRICS: dict[int | str, Any] = {
    200: {
        "description": "The metrics of this process.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}
