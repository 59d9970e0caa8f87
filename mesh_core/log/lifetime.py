"""With-blocks for whatever has a close()."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A thing that a with-block closes."""

    def close(self) -> None:
        """Let go of everything that is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
