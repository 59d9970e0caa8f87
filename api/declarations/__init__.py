"""Declarations that are made over HTTP: views registered as data."""

from api.declarations.routes import router

__all__ = ["router"]
