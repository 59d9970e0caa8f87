"""Asks a server over and over, on many connections at once, and notes how long each answer took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from statistics import quantiles

from bench.harness import BenchmarkFailed, Figure

CONNECTIONS = 32


Requests = Callable[[int], Iterator[bytes]]
"""What a connection of this number sends, one after the other."""


def drive(port: int, requests: Requests, seconds: float, status: int = 200) -> list[float]:
    """Milliseconds of every answer within `seconds`. Raises BenchmarkFailed at one that has another status."""
    return asyncio.run(_drive(port, requests, seconds, status))


def gets(paths: Sequence[str], token: str) -> Requests:
    """Each connection asks for its share of the paths, over and over."""
    asked = [f"GET {path} HTTP/1.1\r\n{_headers(token)}\r\n".encode() for path in paths]
    return lambda number: cycle(asked[number::CONNECTIONS] or asked)


def post(path: str, body: bytes, token: str, headers: Mapping[str, str]) -> bytes:
    """A request with a body."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\n{_headers(token)}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


def _headers(token: str) -> str:
    return f"Host: x\r\nAccept: application/json\r\nAuthorization: Bearer {token}\r\n"


def figures(what: str, milliseconds: Sequence[float], seconds: float) -> list[Figure]:
    """Answers a second, and the time that half of them and 99 of 100 took at most."""
    percentiles = quantiles(milliseconds, n=100, method="inclusive")
    return [
        Figure(f"{what} rate", len(milliseconds) / seconds, "requests/s"),
        Figure(f"{what} p50", percentiles[49], "ms"),
        Figure(f"{what} p99", percentiles[98], "ms"),
    ]


async def _drive(port: int, requests: Requests, seconds: float, status: int) -> list[float]:
    until = time.perf_counter() + seconds
    sending = (_ask(port, requests(number), until, status) for number in range(CONNECTIONS))
    taken = await asyncio.gather(*sending)
    return [each for part in taken for each in part]


async def _ask(port: int, requests: Iterator[bytes], until: float, status: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = []
    expected = f"HTTP/1.1 {status}".encode()
    try:
        while (began := time.perf_counter()) < until:
            request = next(requests)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0] or 0)
            body = await reader.readexactly(length)
            if not head.startswith(expected):
                raise BenchmarkFailed(f"{request[:80]!r}: {head[:40]!r} {body[:300]!r}")
            taken.append(1000 * (time.perf_counter() - began))
    finally:
        writer.close()
    return taken
