"""Shapes of plain JSON that a person wrote: each check says where what it refuses stands, as `where`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from mesh_core.model.errors import DeclarationError


def only(
    where: str, told: Mapping[str, Any], known: tuple[str, ...], *, required: tuple[str, ...] = ()
) -> None:
    """Whether an object has no other keys than are known, and those that are required."""
    for name in told:
        if name not in known:
            raise DeclarationError(
                f"{where}: {name!r} has no meaning here.", remedy=f"Known: {', '.join(known)}."
            )
    for name in required:
        if name not in told:
            raise DeclarationError(f"{where}: {name} is missing.")


def an_object(where: str, data: Any) -> Mapping[str, Any]:
    """The object that it must be."""
    if not isinstance(data, Mapping):
        raise DeclarationError(f"{where} is an object, not {shown(data)}.")
    return data


def nesting(data: Any) -> int:
    """How deep objects and lists nest."""
    if isinstance(data, Mapping):
        data = list(data.values())
    return 1 + max(map(nesting, data), default=0) if isinstance(data, list) else 0


def a_list(where: str, data: Any) -> list[Any]:
    """The list that it must be."""
    if not isinstance(data, list):
        raise DeclarationError(f"{where} is a list, not {shown(data)}.")
    return data


def a_text(where: str, data: Any) -> str:
    """The text that it must be."""
    if not isinstance(data, str):
        raise DeclarationError(f"{where} is text, not {shown(data)}.")
    return data


def some_names(where: str, data: Any) -> tuple[str, ...]:
    """The names that it must list."""
    return tuple(a_text(f"{where}: a name", name) for name in a_list(f"{where}: names", data))


def a_constant(where: str, value: Any) -> Any:
    """The constant that it must be; a number with a point is exact."""
    if isinstance(value, float):
        value = Decimal(str(value))
    if value is not None and not isinstance(value, bool | int | str | Decimal):
        raise DeclarationError(f"{where}: {shown(value)} cannot stand in an expression.")
    return value


def a_decimal(where: str, text: Any) -> Decimal:
    """The exact number that a text must be."""
    try:
        number = Decimal(a_text(f"{where}: decimal", text))
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise DeclarationError(f"{where}: {shown(text)} is not a number.")
    return number


def shown(value: Any) -> str:
    """It, for a sentence: bounded, and without what a terminal cannot take."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
