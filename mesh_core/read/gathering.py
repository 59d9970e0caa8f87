"""Reads that differ in values alone and are asked for at once share a statement.

While as many statements of a form are under way as Postgres has processors to spare, further ones wait and are asked
together in the next: one statement, so one snapshot, which begins after all of them were asked. A lone read is sent at once,
as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from mesh_core.read.compiler import Form, Statement

AT_ONCE = 2
"""Statements of one form that are under way."""
MOST = 16
"""Reads in one statement."""

Row = tuple[Any, ...]
Fetch = Callable[[Statement], Awaitable[Sequence[Row]]]


@dataclass(slots=True)
class _Line:
    """Reads of a form that wait, and how many statements of it are under way."""

    waiting: deque[tuple[Statement, asyncio.Future[Row]]] = field(default_factory=deque)
    running: set[asyncio.Task[None]] = field(default_factory=set)


class Gathering:
    """Answers reads by one row each; `fetch` runs a statement."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._lines: dict[tuple[Form, tuple[object, ...]], _Line] = {}

    async def row(self, form: Form, statement: Statement) -> Row:
        """The row of a statement of this form. Raises what `fetch` raises."""
        key = (form, form.shared(statement.parameters))
        line = self._lines.setdefault(key, _Line())
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        line.waiting.append((statement, future))
        if len(line.running) < AT_ONCE:
            # In no request's context: what it takes is nobody's alone.
            task = asyncio.create_task(self._drain(key, line), context=Context())
            line.running.add(task)
        return await future

    async def _drain(self, key: tuple[Form, tuple[object, ...]], line: _Line) -> None:
        try:
            while line.waiting:
                await self._ask(key[0], [line.waiting.popleft() for _ in range(min(MOST, len(line.waiting)))])
        finally:
            line.running.discard(asyncio.current_task())
            if not line.running and not line.waiting:
                self._lines.pop(key, None)

    async def _ask(self, form: Form, asked: list[tuple[Statement, asyncio.Future[Row]]]) -> None:
        asked = [each for each in asked if not each[1].done()]  # whoever asked may have gone
        if not asked:
            return
        try:
            if len(asked) == 1:
                rows = await self._fetch(asked[0][0])
            else:
                rows = await self._fetch(form.together([statement for statement, _ in asked]))
        except Exception as error:
            if len(asked) == 1:
                _fail(asked[0][1], error)
                return
            for each in asked:  # what is wrong with one must not be so for all
                await self._ask(form, [each])
            return
        except BaseException as error:
            for _, future in asked:
                _fail(future, error)
            raise
        for (_, future), row in zip(asked, rows, strict=True):
            if not future.done():
                future.set_result(row)


def _fail(future: asyncio.Future[Row], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
