"""Workflows: generated, registered, and looked up in both directions."""

from api.workflows.routes import router

__all__ = ["router"]
