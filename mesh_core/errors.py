"""The one root of every error that Flexmesh raises on purpose."""

from __future__ import annotations

from typing import ClassVar


class MeshError(Exception):
    """Something that Flexmesh was asked to do cannot be done."""

    exit_status: ClassVar[int] = 1
    """What a command exits with: 1 the answer is no, 2 wrong use, 3 a dependency is unavailable."""

    def __init__(self, message: str | None = None, *, remedy: str = "") -> None:
        """`message` says what happened to what (default: the class's docstring), `remedy` what to do."""
        super().__init__(message or (type(self).__doc__ or type(self).__name__).strip().split("\n")[0])
        self.remedy = remedy

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} {self.remedy}".strip() if self.remedy else text


class UsageError(MeshError):
    """The request itself is wrong."""

    exit_status = 2


class DependencyUnavailable(MeshError):
    """Kafka or Postgres cannot be reached."""

    exit_status = 3
