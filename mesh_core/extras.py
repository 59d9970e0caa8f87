"""Packages that only some commands need: imported when they are, and named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from mesh_core.errors import UsageError


def arrow() -> Any:
    """The module `pyarrow`. Raises UsageError where it is not installed."""
    return _needed("pyarrow")


def duckdb() -> Any:
    """The module `duckdb`. Raises UsageError where it is not installed."""
    return _needed("duckdb")


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"{name} is not installed.", remedy='pip install "flexmesh[analysis]".') from None
