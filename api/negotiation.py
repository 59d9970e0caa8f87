"""What a client asks for by its headers: the form of an answer, its encoding, and whether it has it already."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers

from mesh_core.errors import UsageError
from mesh_core.log import Position, PositionError
from mesh_core.read import Demand
from mesh_core.read.errors import InvalidParameter, shown

MIN_POSITION = "Mesh-Min-Position"


class NotAcceptable(UsageError):
    """The answer has none of the forms that the client accepts."""


def media_type(headers: Headers, offered: Sequence[str]) -> str:
    """Of the types that are offered the one that `Accept` likes best, the first of equals. Raises NotAcceptable."""
    accept = headers.get("accept", "").strip() or "*/*"
    wanted = dict(_weighted(accept))
    best, weight = "", 0.0
    for offer in offered:
        ranges = (offer, f"{offer.partition('/')[0]}/*", "*/*")
        liked = next((wanted[each] for each in ranges if each in wanted), 0.0)
        if liked > weight:
            best, weight = offer, liked
    if not best:
        raise NotAcceptable(
            f"Accept: {accept[:200]!a} names none of {', '.join(offered)}.",
            remedy=f"Send Accept: {offered[0]}, or none.",
        )
    return best


def demand(headers: Headers, most: float) -> Demand:
    """What an answer must reflect, by `Mesh-Min-Position` and `Prefer: wait=…, max-staleness=…`; at `most` so long a wait.

    Raises InvalidParameter.
    """
    minimum = None
    if (given := headers.get(MIN_POSITION)) is not None:
        try:
            minimum = Position.from_header(given)
        except PositionError as error:
            raise InvalidParameter(
                f"{MIN_POSITION}: {error.args[0]}",
                remedy="Send the Mesh-Position that a write or a read answered.",
            ) from None
    wanted: dict[str, float] = {}
    for header in headers.getlist("prefer"):
        for part in header.split(","):
            name, _, value = part.partition(";")[0].partition("=")
            if (name := name.strip().lower()) in ("wait", "max-staleness"):
                wanted.setdefault(name, _seconds(name, value.strip().strip('"')))
    return Demand(minimum, wanted.get("max-staleness"), min(wanted.get("wait", 0.0), most))


def _seconds(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text, re.ASCII):
        raise InvalidParameter(
            f"Prefer: {name}={shown(text)} is not a number of seconds.", remedy=f"Send Prefer: {name}=2."
        )
    return float(text)


def asks_for_age(headers: Headers) -> bool:
    """Whether `Prefer` bounds the age of the answer, which one that is used again would pass."""
    return any("max-staleness" in each.lower() for each in headers.getlist("prefer"))


def accepts_gzip(headers: Headers) -> bool:
    """Whether an answer may be compressed."""
    wanted = dict(_weighted(headers.get("accept-encoding", "")))
    return wanted.get("gzip", wanted.get("*", 0.0)) > 0


def matches(headers: Headers, tag: str) -> bool:
    """Whether `If-None-Match` names the tag."""
    tags = [each.strip().removeprefix("W/") for each in ",".join(headers.getlist("if-none-match")).split(",")]
    return tag in tags or "*" in tags


def _weighted(text: str) -> list[tuple[str, float]]:
    found = []
    for part in text.split(","):
        name, *parameters = (each.strip() for each in part.lower().split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if name:
            found.append((name, weight))
    return found
