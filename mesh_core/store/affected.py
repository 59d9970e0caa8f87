"""Which roots of a view a batch touched: the way from a changed row back up the tree.

Why walking the tables as they are now is enough. Let a root's result differ before and after. Take the
topmost node of its tree that differs. Its chain of parents is the same before and after, so walking up from
that node in the tables of now reaches the root; and the node's own row changed (a `one` neighbour, found by
its key) or it came or went (a `many` child, found by its old and its new parent). Two transactions that touch
one tree: both write entity rows first and then take the view's lock, each reading in fresh READ COMMITTED
statements after it. Whoever is second therefore walks and recomputes over all that the first committed, and
over its own writes: whatever the first could not see yet, the second does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh_core.model.paths import Edge, Path
from mesh_core.model.view import ViewModel
from mesh_core.store.tables import ENTRY, WORKFLOW, columns_sql, key_text_sql, quote
from mesh_core.store.view_query import Tables, workflow_end, workflow_pairs


@dataclass(frozen=True)
class Node:
    """A place in a view's tree where a row of `entity` matters.

    `relevant`: the columns whose change matters (None: any). `carried`: non-key columns whose old and new
    values the walk starts from. `entry_of`: this is the lookup table behind the last edge of the path.
    """

    entity: str
    path: Path
    relevant: frozenset[str] | None
    carried: tuple[str, ...] = ()
    entry_of: Edge | None = None


def nodes(view: ViewModel, tables: Tables) -> Iterator[Node]:
    """Every node of the view's tree, the root first."""
    for path in sorted(view.paths, key=len):
        entity = path[-1].target if path else view.root
        key = set(tables.entities[entity].key)
        if view.sql is not None:
            relevant = None
        else:
            used = {column for at, column in view.references if at == path and column}
            for longer in view.paths:
                if len(longer) == len(path) + 1 and longer[: len(path)] == path:
                    used.update(longer[-1].source_columns)
            if path:
                used.update(path[-1].target_columns)
            relevant = frozenset(used - key)
        carried = (
            tuple(c for c in path[-1].target_columns if c not in key)
            if path and path[-1].kind == "many"
            else ()
        )
        yield Node(entity, path, relevant, carried)
        if path and path[-1].kind == "workflow":
            yield Node(ENTRY, path, frozenset(), (), path[-1])


def affected_select(node: Node, view: ViewModel, tables: Tables, touched: str, flag: str) -> str:
    """SELECT of root keys (as the view names them) that rows in `touched` with `flag` set reach through `node`."""
    if not node.path:
        return f"SELECT {columns_sql(view.key)} FROM {touched} WHERE {flag}"
    walk = _Walk(tables)
    edge = node.path[-1]
    if node.entry_of is not None:
        walk.start_at_entries(edge, touched, flag)
    elif edge.kind == "one":
        walk.start(
            f"(SELECT {columns_sql(edge.target_columns)} FROM {touched} WHERE {flag})", edge.target_columns
        )
        walk.climb_one(edge)
    elif edge.kind == "many":
        key = set(tables.entities[node.entity].key)
        sides = [
            ", ".join(quote(c) if c in key else quote(f"{side}_{c}") for c in edge.target_columns)
            for side in ("old", "new")
        ]
        names = columns_sql(edge.target_columns)
        rows = " UNION ".join(f"SELECT {side} FROM {touched} WHERE {flag}" for side in dict.fromkeys(sides))
        walk.start(f"(SELECT * FROM ({rows}) AS sides({names}))", edge.target_columns)
        walk.climb_many(edge)
    else:
        walk.start(f"(SELECT * FROM {touched} WHERE {flag})", tables.entities[node.entity].key)
        walk.climb_workflow(edge)
    for above in reversed(node.path[:-1]):
        match above.kind:
            case "one":
                walk.climb_one(above)
            case "many":
                walk.climb_many(above)
            case "workflow":
                walk.climb_workflow(above)
    return f"SELECT {walk.columns_as(view.key)} FROM {walk.source}"


class _Walk:
    """A FROM clause that grows towards the root.

    `alias` is where it stands; `held` are the columns of the entity there whose values are known, by the
    name of the SQL column that holds each.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables, self.source, self.alias, self.count = tables, "", "", 0
        self.held: dict[str, str] = {}

    def start(self, rows: str, columns: Sequence[str]) -> None:
        self.alias = self._next()
        self.source = f"{rows} {self.alias}"
        self.held = {column: f"{self.alias}.{quote(column)}" for column in columns}

    def start_at_entries(self, edge: Edge, touched: str, flag: str) -> None:
        """From touched lookup entries to the rows of `edge.source` that share their workflow."""
        entries, source = self.tables.table(ENTRY), self.tables.entities[edge.source]
        if edge.source == WORKFLOW:
            rows = f"(SELECT DISTINCT workflow_id FROM {touched} WHERE {flag})"
            self.start(rows, ("workflow_id",))
            return
        service, name = edge.source.split(".")
        rows = (
            f"(SELECT DISTINCT e.key FROM {touched} c JOIN {entries} e ON e.workflow_id = c.workflow_id "
            f"WHERE c.{flag} AND e.service = '{service}' AND e.entity = '{name}')"
        )
        key = self._next()
        self.alias = self._next()
        self.source = (
            f"{rows} {key} JOIN {self.tables.table(edge.source)} {self.alias} "
            f"ON {key_text_sql(source, self.alias)} = {key}.key"
        )
        self._holds_row(edge.source)

    def climb_one(self, edge: Edge) -> None:
        """From the target's key to the sources that reference it."""
        above = self._next()
        on = " AND ".join(
            f"{above}.{quote(theirs)} = {self.held[ours]}"
            for ours, theirs in zip(edge.target_columns, edge.source_columns, strict=True)
        )
        self.source += f" JOIN {self.tables.table(edge.source)} {above} ON {on}"
        self.alias = above
        self._holds_row(edge.source)

    def climb_many(self, edge: Edge) -> None:
        """From the child's columns to the parent's key: the values are the key, so the parent is not read."""
        if any(name not in self.held for name in edge.target_columns):
            self._read_row(edge.target)
        self.held = {
            theirs: self.held[ours]
            for ours, theirs in zip(edge.target_columns, edge.source_columns, strict=True)
        }

    def climb_workflow(self, edge: Edge) -> None:
        pairs, above = self._next(), self._next()
        target_key = workflow_end(self.tables.entities[edge.target], self.held)
        source = self.tables.entities[edge.source]
        source_key = workflow_end(source, {name: f"{above}.{quote(name)}" for name in source.key})
        together = workflow_pairs(self.tables, edge.source, edge.target, once=False)
        self.source += (
            f" JOIN {together} {pairs} ON {pairs}.target_key = {target_key}"
            f" JOIN {self.tables.table(edge.source)} {above} ON {source_key} = {pairs}.source_key"
        )
        self.alias = above
        self._holds_row(edge.source)

    def _read_row(self, entity: str) -> None:
        """Join the row whose key is held."""
        row = self._next()
        on = " AND ".join(
            f"{row}.{quote(name)} = {self.held[name]}" for name in self.tables.entities[entity].key
        )
        self.source += f" JOIN {self.tables.table(entity)} {row} ON {on}"
        self.alias = row
        self._holds_row(entity)

    def columns_as(self, key: tuple[str, ...]) -> str:
        return ", ".join(f"{self.held[name]} AS {quote(name)}" for name in key)

    def _holds_row(self, entity: str) -> None:
        model = self.tables.entities[entity]
        self.held = {column.name: f"{self.alias}.{quote(column.name)}" for column in model.columns}

    def _next(self) -> str:
        self.count += 1
        return f"w{self.count}"


__all__ = ["Node", "affected_select", "nodes"]
