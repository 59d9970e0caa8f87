"""Asks a server over and over, on many connections at once, and notes how long each answer took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from statistics import quantiles

from bench.harness import BenchmarkFailed, Figure

CONNECTIONS = 32


def drive(port: int, paths: Sequence[str], seconds: float) -> list[float]:
    """Milliseconds of every answer within `seconds`. Raises BenchmarkFailed at an answer that is not 200."""
    return asyncio.run(_drive(port, paths, seconds))


def figures(what: str, milliseconds: Sequence[float], seconds: float) -> list[Figure]:
    """Answers a second, and the time that half of them and 99 of 100 took at most."""
    percentiles = quantiles(milliseconds, n=100, method="inclusive")
    return [
        Figure(f"{what} rate", len(milliseconds) / seconds, "requests/s"),
        Figure(f"{what} p50", percentiles[49], "ms"),
        Figure(f"{what} p99", percentiles[98], "ms"),
    ]


async def _drive(port: int, paths: Sequence[str], seconds: float) -> list[float]:
    until = time.perf_counter() + seconds
    parts = [paths[number::CONNECTIONS] for number in range(CONNECTIONS)]
    taken = await asyncio.gather(*(_ask(port, cycle(part or paths), until) for part in parts))
    return [each for part in taken for each in part]


async def _ask(port: int, paths: Iterator[str], until: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = []
    try:
        while (began := time.perf_counter()) < until:
            path = next(paths)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise BenchmarkFailed(f"{path}: {head[:40]!r} {body[:300]!r}")
            taken.append(1000 * (time.perf_counter() - began))
    finally:
        writer.close()
    return taken
