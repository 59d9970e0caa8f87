"""A moment of the log as people name it: a position, or a time."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from mesh_core.errors import UsageError
from mesh_core.log.errors import PositionError
from mesh_core.log.position import Position


def milliseconds(time: datetime) -> int:
    """The first millisecond since 1970, as Kafka counts, that is not before a time; 0 for earlier ones, as it has no others.

    A time without a zone is UTC.
    """
    known = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return max(0, math.ceil(known.timestamp() * 1000))


def parse_moment(text: str) -> Position | datetime:
    """A position as `Mesh-Position` spells it, or a time of RFC 3339; a day is its first moment, in UTC as is what has no zone.

    Raises UsageError.

    >>> parse_moment("2017-01-01").isoformat()
    '2017-01-01T00:00:00+00:00'
    """
    if text.lstrip().startswith("{"):
        try:
            return Position.from_header(text)
        except PositionError as error:
            raise UsageError(f"{error}", remedy='Such as {"sales.events": {"0": 42}}.') from None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is neither a time nor a position.",
            remedy='Such as 2017-01-01, 2017-01-01T12:00:00Z or {"sales.events": {"0": 42}}.',
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
