"""The head of an answer and its body leave in one write."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh_core.cli.joining import _Joined


class Transport:
    def __init__(self) -> None:
        self.written: list[Any] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.written.append("closed")


def test_what_is_written_in_one_turn_leaves_together() -> None:
    async def written() -> list[Any]:
        transport = Transport()
        joined: Any = _Joined(transport, asyncio.get_running_loop())  # type: ignore[arg-type]  # all that is used
        for data in (b"head", b"", b"body"):
            joined.write(data)
        assert transport.written == []
        await asyncio.sleep(0)
        joined.write(b"chunk")
        joined.write(b"x" * 100_000)
        assert len(transport.written) == 2, "at once, so that whoever writes much hears when to wait"
        for _ in range(4):
            joined.write(b"more")
        assert len(transport.written) == 3, "nor are pieces without end"
        joined.write(b"end")
        joined.close()
        await asyncio.sleep(0)
        return transport.written

    assert asyncio.run(written()) == [b"headbody", b"chunk" + b"x" * 100_000, b"more" * 4, b"end", "closed"]
