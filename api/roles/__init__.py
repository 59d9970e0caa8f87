"""Who may see what: roles and their grants."""

from api.roles.routes import router

__all__ = ["router"]
