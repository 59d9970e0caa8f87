"""Errors of the model."""

from __future__ import annotations

from mesh_core.errors import UsageError


class DeclarationError(UsageError):
    """A declaration cannot work."""
