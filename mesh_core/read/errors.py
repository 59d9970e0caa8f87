"""Why a read cannot be answered. Each is a kind of problem that the API names in its answers."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from mesh_core.errors import DependencyUnavailable, MeshError, UsageError


class ReadError(MeshError):
    """A read cannot be answered."""


class Forbidden(ReadError):
    """Who asks may not do that."""


class NotFound(ReadError):
    """There is nothing of that name."""


class ViewNotFound(NotFound):
    """There is no such view."""


class RowNotFound(NotFound):
    """There is no row with that key."""


class ViewNotRegistered(NotFound):
    """No view of that name is registered."""


class ContractsNotRegistered(NotFound):
    """The service has registered no contracts."""


class DeployNotFound(NotFound):
    """There is no deploy of that number."""


class WorkflowNotFound(NotFound):
    """There is no such workflow."""


class RequestError(ReadError, UsageError):
    """The request cannot be understood."""


class UnknownParameter(RequestError):
    """A parameter is neither one of the route nor a column of the view."""


class InvalidParameter(RequestError):
    """A parameter's value cannot be used."""


class InvalidValue(RequestError):
    """A value is not of its column's type."""


class TooManyRows(RequestError):
    """There are more rows than a stream may have."""


class InvalidKey(RequestError):
    """The key is not one of this view."""


class InvalidCursor(RequestError):
    """The cursor was not made here."""


class CursorExpired(ReadError):
    """The cursor is of another order of rows, or of columns that have changed since."""


class HistoryTooLong(RequestError):
    """The history needs more of the log to be read than may be."""


class LogIncomplete(ReadError):
    """The log does not have all the records that made the row."""


class Unmet(ReadError):
    """What was read has not come as far as was asked for; `position` is how far it has, and its age in seconds."""

    def __init__(
        self, message: str | None = None, *, remedy: str = "", position: str = "{}", age: float | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.position, self.age = position, age


class NotReached(Unmet):
    """What was asked for by Mesh-Min-Position is not reflected in time."""


class TooStale(Unmet):
    """Rows may be older than max-staleness."""


class Parked(ReadError):
    """An event below Mesh-Min-Position waits behind a dead letter."""


class NotMigrated(ReadError):
    """The database has no control schema."""

    exit_status = 3


class NotDeployed(ReadError):
    """Nothing is deployed yet."""

    exit_status = 3


class ReadUnavailable(DependencyUnavailable, ReadError):
    """Postgres cannot be reached."""


class ReadTimeout(ReadUnavailable):
    """The read took too long."""


class HistoriesBusy(ReadUnavailable):
    """As many histories are being told as may be at once."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`Did you mean …? ` with the most similar of `names`, or nothing."""
    found = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"Did you mean {found[0]}? " if found else ""


def listing(names: Iterable[str], limit: int = 20) -> str:
    """`names` for a sentence: in order, comma-separated, bounded."""
    known = list(names)
    return ", ".join(known[:limit]) + (", …" if len(known) > limit else "") if known else "none"


def shown(text: str) -> str:
    """What a client sent, quoted for a sentence: bounded, and without what JSON or a terminal cannot take."""
    return ascii(text[:80] + "…" if len(text) > 80 else text) if not text.isprintable() else repr(text[:80])
