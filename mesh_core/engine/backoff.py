"""Pauses between tries, doubling up to a limit, with jitter."""

from __future__ import annotations

import random


class Backoff:
    """0.1 s, 0.2 s, … up to `longest` seconds, each shortened at random by up to half."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first, self._longest, self._tries = first, longest, 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        seconds: float = min(self._longest, self._first * 2.0**self._tries)
        self._tries += 1
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311  # jitter is no secret

    def reset(self) -> None:
        """Something worked; the next pause is the first again."""
        self._tries = 0
