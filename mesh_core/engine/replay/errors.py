"""What a replay refuses."""

from __future__ import annotations

from mesh_core.engine.errors import EngineError


class ReplayRefused(EngineError):
    """The view cannot be made as it was asked for."""
