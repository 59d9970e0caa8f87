"""For those who run it: liveness, readiness, metrics."""

from api.admin.routes import router

__all__ = ["router"]
