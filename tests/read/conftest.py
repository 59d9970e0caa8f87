"""A database with the small mesh in it, and a reader of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from mesh_core.read import Database
from mesh_core.read.database import Reader
from tests.support.services import Services, fresh_database

T = TypeVar("T")
Reading = Callable[[Callable[[Reader], Awaitable[T]]], T]


@contextmanager
def reader(url: str) -> Iterator[Callable[[Callable[[Reader], Awaitable[Any]]], Any]]:
    """`reading(lambda database: one_row(database, …))`; the same reader each time."""
    with asyncio.Runner() as runner:
        database = Database(url, pool_size=4, statement_timeout_seconds=5)
        runner.run(database.open())

        async def run(use: Callable[[Reader], Awaitable[Any]]) -> Any:
            return await use(database.as_itself)

        yield lambda use: runner.run(run(use))
        runner.run(database.close())


@pytest.fixture
def reading(deployed_url: str) -> Iterator[Callable[[Callable[[Reader], Awaitable[Any]]], Any]]:
    """A reader of a database of the test's own."""
    with reader(deployed_url) as reading:
        yield reading


@pytest.fixture(scope="module")
def refusing(
    services: Services, _deployed: str
) -> Iterator[Callable[[Callable[[Reader], Awaitable[Any]]], Any]]:
    """A reader for tests that change nothing: one for all of the module."""
    with fresh_database(services.database_url, like=_deployed) as url, reader(url) as reading:
        yield reading
