"""Contracts over HTTP: those of all topics as one document, and those that services declare as data."""

from api.contracts.routes import router

__all__ = ["router"]
