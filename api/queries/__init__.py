"""Several queries, answered from one snapshot."""

from api.queries.routes import router

__all__ = ["router"]
