"""A view that is declared as data: plain JSON, as `ViewModel.to_document` gives it.

A person may write less: the key of the root, types, the entity that a column is of, where an edge starts, and what an
expression does without are derived. What is written all the same must be so. Expressions and edges are made by what
makes those of a declaration in Python, so both are refused for the same reasons, and have the same fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh_core.model.edges import (
    Columns,
    Many,
    edge_by_workflow,
    edge_to_many,
    edge_to_one,
    rollup_functions,
)
from mesh_core.model.entity import EntityModel
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
from mesh_core.model.identifiers import name_problem
from mesh_core.model.paths import Edge, Path
from mesh_core.model.shapes import a_constant, a_decimal, a_list, a_text, an_object, nesting, only, some_names
from mesh_core.model.types import ColumnType
from mesh_core.model.view_checks import checked
from mesh_core.model.view_model import ViewColumn, ViewModel

MAX_NESTING = 150
"""How deep a declaration may nest; the event that carries it may nest 200 deep."""
OPERATORS = ("+", "-", "*", "=", "<>", "<", "<=", ">", ">=", "and", "or", "coalesce")
_EXPRESSION = "value, decimal, column, rollup, op, not or is_null"
_OF_SQL = ("sql", "number", "edges")


def view_from_data(
    data: Any, entities: Mapping[str, EntityModel], *, types_as_told: bool = True
) -> ViewModel:
    """The view, checked. Raises DeclarationError naming view and column.

    Without `types_as_told` nothing that `data` says of types counts: entities may have changed since it was written.
    """
    declared = an_object("The declaration", data)
    if nesting(data) > MAX_NESTING:
        raise DeclarationError(f"The declaration is nested more than {MAX_NESTING} deep.")
    name = declared.get("name")
    if not isinstance(name, str):
        raise DeclarationError("The declaration has no name.", remedy='For example "name": "order_overview".')
    if problem := name_problem(name):
        raise DeclarationError(f"View {problem}.")
    if given := [key for key in _OF_SQL if key in declared]:
        raise DeclarationError(
            f"{name}: {given[0]} belongs to a view of its own SQL, which is declared in code only: SQL runs with the "
            "rights of the mesh.",
            remedy="Say it as columns over edges, or have it declared as a CustomView.",
        )
    known = ("name", "root", "key", "columns", "indexes", "doc", "cache")
    only(name, declared, known, required=("root", "columns"))
    reader = _Reader(entities, types_as_told)
    root = reader.entity(f"{name}: root", declared["root"])
    if "key" in declared and declared["key"] != list(root.key):
        raise DeclarationError(
            f"{name}: the key is that of {root.name}, ({', '.join(root.key)}).", remedy="Leave it out."
        )
    columns = tuple(
        reader.column(name, root, column) for column in a_list(f"{name}: columns", declared["columns"])
    )
    model = ViewModel(
        name,
        root.name,
        root.key,
        columns,
        doc=a_text(f"{name}: doc", declared.get("doc", "")),
        indexes=tuple(
            some_names(f"{name}: indexes", [index] if isinstance(index, str) else index)
            for index in a_list(f"{name}: indexes", declared.get("indexes", []))
        ),
        cache=declared.get("cache"),
    )
    return checked(model, root)


@dataclass(frozen=True)
class _Reader:
    """Reads columns, expressions and edges; `start` is always the entity of the row that they start from."""

    entities: Mapping[str, EntityModel]
    types_as_told: bool

    def column(self, view: str, root: EntityModel, data: Any) -> ViewColumn:
        """A column of the view."""
        told = an_object(f"{view}: a column", data)
        name = a_text(f"{view}: the name of a column", told.get("name"))
        where = f"{view}.{name}"
        if problem := name_problem(name):
            raise DeclarationError(f"{view}: {problem}.")
        only(where, told, ("name", "expression", "type", "doc"), required=("expression",))
        try:
            expression = self.expression(where, root, told["expression"])
        except DeclarationError as error:  # what refuses it does not know where it stands
            said = str(error.args[0])
            raise DeclarationError(
                said if said.startswith(where) else f"{where}: {said}", remedy=error.remedy
            ) from None
        self._check_type(where, told, expression.type)
        return ViewColumn(name, expression.type, expression, a_text(f"{where}: doc", told.get("doc", "")))

    def expression(self, where: str, start: EntityModel, data: Any) -> Expr[Any, Any]:
        """An expression over a row of `start`."""
        told = an_object(f"{where}: an expression", data)
        if "value" in told:
            only(where, told, ("value",))
            return Literal_(a_constant(where, told["value"]))
        if "decimal" in told:
            only(where, told, ("decimal",))
            return Literal_(a_decimal(where, told["decimal"]))
        if "column" in told:
            return self._reference(where, start, told)
        if "rollup" in told:
            return self._rollup(where, start, told)
        if "not" in told:
            only(where, told, ("not",))
            return Negation(self._condition(where, start, told["not"]))
        if "is_null" in told:
            only(where, told, ("is_null", "operand"), required=("operand",))
            if not isinstance(told["is_null"], bool):
                raise DeclarationError(f"{where}: is_null is true or false.")
            return NullTest(self.expression(where, start, told["operand"]), told["is_null"])
        if "op" in told:
            return self._operation(where, start, told)
        raise DeclarationError(
            f"{where}: an expression has one of {_EXPRESSION}, not {', '.join(map(repr, told)) or 'nothing'}."
        )

    def _operation(self, where: str, start: EntityModel, told: Mapping[str, Any]) -> Expr[Any, Any]:
        only(where, told, ("op", "left", "right"), required=("left", "right"))
        if told["op"] in ("and", "or"):
            sides = (self._condition(where, start, told[side]) for side in ("left", "right"))
            return Logical(told["op"], *sides)
        left, right = (self.expression(where, start, told[side]) for side in ("left", "right"))
        match told["op"]:
            case "+" | "-" | "*" as op:
                return Arithmetic(op, left, right)
            case "=" | "<>" | "<" | "<=" | ">" | ">=" as op:
                if isinstance(right, Literal_) and right.value is None:
                    raise DeclarationError(
                        f"{where}: nothing is {op} null.", remedy='Ask {"is_null": true, "operand": …}.'
                    )
                return Comparison(op, left, right)
            case "coalesce":
                return Coalesce(left, right)
        raise DeclarationError(f"{where}: {told['op']!r} is none of {', '.join(OPERATORS)}.")

    def _condition(self, where: str, start: EntityModel, data: Any) -> Any:
        found = self.expression(where, start, data)
        if found.type.kind != "bool":
            raise DeclarationError(f"{where}: a condition is true or false, not {found.type.kind}.")
        return found

    def _reference(self, where: str, start: EntityModel, told: Mapping[str, Any]) -> Expr[Any, Any]:
        only(where, told, ("column", "path", "entity", "type"))
        path, end = self.path(where, start, told.get("path", []))
        if edge := next((edge for edge in path if edge.kind != "one"), None):
            raise DeclarationError(
                f"{where}: a column of many {edge.target} rows is not one value.",
                remedy=f"Roll it up: {', '.join(rollup_functions())}.",
            )
        if "entity" in told and told["entity"] != end.name:
            raise DeclarationError(f"{where}: the path ends at {end.name}, not at {told['entity']!r}.")
        (found,) = self.columns(where, end, [told["column"]])
        self._check_type(where, told, found.column_type)
        return ColumnRef(found.entity, found.column, found.column_type, path)

    def _rollup(self, where: str, start: EntityModel, told: Mapping[str, Any]) -> Expr[Any, Any]:
        only(where, told, ("rollup", "path", "argument", "where", "by", "limit"), required=("path",))
        function = told["rollup"]
        if function not in rollup_functions():
            raise DeclarationError(f"{where}: {function!r} is none of {', '.join(rollup_functions())}.")
        path, end = self.path(where, start, told["path"])
        if all(edge.kind == "one" for edge in path):
            raise DeclarationError(
                f"{where}: the path of {function} leads to one row.", remedy="Name its column instead."
            )
        rows: Many[Any, Any] = Many(path)
        kept = None if told.get("where") is None else self._condition(where, end, told["where"])
        argument = told.get("argument")
        by = [self.expression(where, end, part) for part in a_list(f"{where}: by", told.get("by") or [])]
        limit = told.get("limit")
        takes = {"list": ("by", "limit"), "latest": ("by",)}.get(function, ())
        for name in ("by", "limit"):
            if told.get(name) and name not in takes:
                raise DeclarationError(f"{where}: {function} takes no {name}.")
        if (argument is None) != (function == "count"):
            raise DeclarationError(f"{where}: {function} {'takes no' if argument else 'needs an'} argument.")
        if len(by) > 1 or (function == "latest" and not by):
            raise DeclarationError(f"{where}: {function} is ordered by one expression.")
        if function == "count":
            return rows.count(where=kept)
        value: Any = self.expression(where, end, argument)
        match function:
            case "sum":
                return rows.sum(value, where=kept)
            case "min":
                return rows.min(value, where=kept)
            case "max":
                return rows.max(value, where=kept)
            case "latest":
                return rows.latest(value, by=by[0], where=kept)
        if limit is not None and type(limit) is not int:
            raise DeclarationError(f"{where}: the limit of a list is a whole number.")
        limits = {} if limit is None else {"limit": limit}
        return rows.list(value, by=by[0] if by else None, where=kept, **limits)

    def path(self, where: str, start: EntityModel, data: Any) -> tuple[Path, EntityModel]:
        """The edges from `start`, and the entity at their end."""
        edges = []
        for told in a_list(f"{where}: path", data):
            edge = self.edge(where, start, an_object(f"{where}: an edge", told))
            edges.append(edge)
            start = self.entities[edge.target]
        return tuple(edges), start

    def edge(self, where: str, start: EntityModel, told: Mapping[str, Any]) -> Edge:
        """An edge from `start`."""
        known = ("kind", "source", "source_columns", "target", "target_columns")
        only(where, told, known, required=("kind", "target"))
        if "source" in told and told["source"] != start.name:
            raise DeclarationError(
                f"{where}: an edge starts at {told['source']!r}, but the one before ends at {start.name}."
            )
        target = self.entity(f"{where}: an edge", told["target"])
        ends = {
            "source_columns": told.get("source_columns") or list(start.key),
            "target_columns": told.get("target_columns") or list(target.key),
        }
        match told["kind"]:
            case "one":
                only(where, told, known, required=("source_columns",))
                return edge_to_one(
                    self.columns(where, start, ends["source_columns"]),
                    self.columns(where, target, ends["target_columns"]),
                    target,
                )
            case "many":
                only(where, told, known, required=("target_columns",))
                return edge_to_many(
                    self.columns(where, target, ends["target_columns"]),
                    self.columns(where, start, ends["source_columns"]),
                    start,
                )
            case "workflow":
                if told.get("source_columns") or told.get("target_columns"):
                    raise DeclarationError(f"{where}: an edge over workflows has no columns.")
                return edge_by_workflow(start, target)
        raise DeclarationError(f"{where}: {told['kind']!r} is no kind of edge: one, many or workflow.")

    def entity(self, where: str, name: Any) -> EntityModel:
        """The entity of this name."""
        if not isinstance(name, str) or name not in self.entities:
            raise DeclarationError(
                f"{where}: there is no entity {name!r}.", remedy=f"Entities: {', '.join(self.entities)}."
            )
        return self.entities[name]

    def columns(self, where: str, entity: EntityModel, names: Any) -> Columns:
        """Columns of the entity itself."""
        found: list[ColumnRef[Any, Any]] = []
        for name in some_names(where, names):
            try:
                column = entity.column(name)
            except KeyError:
                known = ", ".join(each.name for each in entity.columns)
                raise DeclarationError(
                    f"{where}: {entity.name} has no column {name!r}.", remedy=f"Its columns: {known}."
                ) from None
            found.append(ColumnRef(entity.name, name, column.type))
        return tuple(found)

    def _check_type(self, where: str, told: Mapping[str, Any], derived: ColumnType) -> None:
        if self.types_as_told and "type" in told and told["type"] != derived.to_json():
            raise DeclarationError(
                f"{where}: the type is {derived.to_json()}, not {told['type']!r}.",
                remedy="Leave it out; it is derived.",
            )
