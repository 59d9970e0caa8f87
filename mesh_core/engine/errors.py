"""Errors of the engine."""

from __future__ import annotations

from mesh_core.errors import MeshError


class EngineError(MeshError):
    """The engine cannot go on."""


class PlanChanged(EngineError):
    """Versions changed since the plan was made; what was read is read again, by the new one."""


class Unforeseen(EngineError):
    """Records were folded ahead that should not have been: they have to be read again."""


class Halted(EngineError):
    """A topic cannot be read on without losing or doubling something."""

    def __init__(self, topic: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.topic = topic


class DeployRefused(EngineError):
    """The deploy would harm what serves."""
