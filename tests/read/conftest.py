"""A database with the small mesh in it, and a reader of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from mesh_core.read import Database
from mesh_core.read.database import Reader

T = TypeVar("T")
Reading = Callable[[Callable[[Reader], Awaitable[T]]], T]


@pytest.fixture
def reading(deployed_url: str) -> Iterator[Callable[[Callable[[Reader], Awaitable[Any]]], Any]]:
    """`reading(lambda database: one_row(database, …))`; the same reader each time."""
    with asyncio.Runner() as runner:
        database = Database(deployed_url, pool_size=4, statement_timeout_seconds=5)
        runner.run(database.open())

        async def run(use: Callable[[Reader], Awaitable[Any]]) -> Any:
            return await use(database.as_itself)

        yield lambda use: runner.run(run(use))
        runner.run(database.close())
