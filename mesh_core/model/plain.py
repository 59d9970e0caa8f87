"""Expressions and paths as plain JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from mesh_core.model.errors import DeclarationError
from mesh_core.model.expressions import (
    Arithmetic,
    Coalesce,
    ColumnRef,
    Comparison,
    Expr,
    Literal_,
    Logical,
    Negation,
    NullTest,
)
from mesh_core.model.paths import Edge, Path
from mesh_core.model.rollups import Rollup
from mesh_core.model.types import ColumnType


def path_to_json(path: Path) -> list[dict[str, Any]]:
    """A path as plain JSON."""
    return [
        {
            "kind": edge.kind,
            "source": edge.source,
            "source_columns": list(edge.source_columns),
            "target": edge.target,
            "target_columns": list(edge.target_columns),
        }
        for edge in path
    ]


def path_from_json(data: Sequence[Mapping[str, Any]]) -> Path:
    """What `path_to_json` wrote."""
    return tuple(
        Edge(
            edge["kind"],
            edge["source"],
            tuple(edge["source_columns"]),
            edge["target"],
            tuple(edge["target_columns"]),
        )
        for edge in data
    )


def expression_to_json(expression: Expr[Any, Any]) -> dict[str, Any]:
    """Plain JSON of an expression; `expression_from_json` reads it back."""
    match expression:
        case Literal_(value):
            return {"decimal": str(value)} if isinstance(value, Decimal) else {"value": value}
        case ColumnRef():
            return {
                "column": expression.column,
                "entity": expression.entity,
                "type": expression.column_type.to_json(),
                "path": path_to_json(expression.path),
            }
        case Rollup():
            return {
                "rollup": expression.function,
                "path": path_to_json(expression.path),
                "argument": _optional(expression.argument),
                "where": _optional(expression.where),
                "by": [expression_to_json(part) for part in expression.by],
                "limit": expression.limit,
            }
        case Arithmetic() | Comparison() | Logical():
            return {
                "op": expression.op,
                "left": expression_to_json(expression.left),
                "right": expression_to_json(expression.right),
            }
        case Coalesce(left, right):
            return {"op": "coalesce", "left": expression_to_json(left), "right": expression_to_json(right)}
        case Negation(operand):
            return {"not": expression_to_json(operand)}
        case NullTest(operand, is_null):
            return {"is_null": is_null, "operand": expression_to_json(operand)}
    raise DeclarationError(f"{expression!r} is not plain data.")


def expression_from_json(data: Mapping[str, Any]) -> Expr[Any, Any]:
    """The expression that `expression_to_json` wrote. Raises DeclarationError on anything else."""
    if "value" in data:
        return Literal_(data["value"])
    if "decimal" in data:
        return Literal_(Decimal(data["decimal"]))
    if "column" in data:
        return ColumnRef(
            data["entity"], data["column"], ColumnType.from_json(data["type"]), path_from_json(data["path"])
        )
    if "rollup" in data:
        where: Any = _read(data["where"])
        by = tuple(expression_from_json(part) for part in data["by"])
        return Rollup(
            path_from_json(data["path"]), data["rollup"], _read(data["argument"]), where, by, data["limit"]
        )
    if "not" in data:
        negated: Any = expression_from_json(data["not"])
        return Negation(negated)
    if "is_null" in data:
        return NullTest(expression_from_json(data["operand"]), data["is_null"])
    if "op" in data:
        left: Any = expression_from_json(data["left"])
        right: Any = expression_from_json(data["right"])
        match data["op"]:
            case "+" | "-" | "*" as op:
                return Arithmetic(op, left, right)
            case "and" | "or" as op:
                return Logical(op, left, right)
            case "coalesce":
                return Coalesce(left, right)
            case "=" | "<>" | "<" | "<=" | ">" | ">=" as op:
                return Comparison(op, left, right)
    raise DeclarationError(f"{dict(data)!r} is not an expression.")


def _optional(expression: Expr[Any, Any] | None) -> dict[str, Any] | None:
    return None if expression is None else expression_to_json(expression)


def _read(data: Mapping[str, Any] | None) -> Expr[Any, Any] | None:
    return None if data is None else expression_from_json(data)
