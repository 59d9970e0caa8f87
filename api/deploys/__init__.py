"""Plans and deploys: what would change, making it so, and what came of it."""

from api.deploys.routes import router

__all__ = ["router"]
