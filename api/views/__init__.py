"""Views: the catalogue, pages of rows, one row, and how they can be joined."""

from api.views.routes import router

__all__ = ["router"]
