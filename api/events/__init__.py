"""Events: the timeline."""

from api.events.routes import router

__all__ = ["router"]
