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
from mesh_core.model.view_model import ViewModel
from mesh_core.store.differences import Kept, columns_read, kept_columns
from mesh_core.store.tables import ENTRY, WORKFLOW, columns_sql, key_text_sql, quote
from mesh_core.store.view_query import Tables, difference_sql, workflow_end, workflow_pairs


@dataclass(frozen=True)
class Node:
    """A place in a view's tree where a row of `entity` matters.

    `relevant`: the columns whose change matters (None: any). `carried`: non-key columns whose old and new
    values the walk starts from. `entry_of`: this is the lookup table behind the last edge of the path.
    `start`: the columns that the walk starts from, of the root none. `kept`: columns of the view that are kept by
    difference of what rows here contribute.
    """

    entity: str
    path: Path
    relevant: frozenset[str] | None
    carried: tuple[str, ...] = ()
    entry_of: Edge | None = None
    start: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from the other nodes of its view, whatever code reads it."""
        return "".join(f"{_edge_text(edge)} " for edge in self.path) + self.entity


def _edge_text(edge: Edge) -> str:
    source, target = (",".join(columns) for columns in (edge.source_columns, edge.target_columns))
    return f"{edge.source}({source}) {edge.kind} {edge.target}({target})"


def nodes(view: ViewModel, tables: Tables) -> Iterator[Node]:
    """Every node of the view's tree, the root first."""
    differences = kept_columns(view)
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
        kept = tuple(differences.get(path, ()))
        carried: tuple[str, ...] = ()
        if path and path[-1].kind == "many":
            names = dict.fromkeys([*path[-1].target_columns, *sorted(columns_read(kept))])
            carried = tuple(name for name in names if name not in key)
        start: tuple[str, ...] = ()
        if path:
            workflow = path[-1].kind == "workflow"
            start = tables.entities[entity].key if workflow else path[-1].target_columns
        yield Node(entity, path, relevant, carried, start=start, kept=kept)
        if path and path[-1].kind == "workflow":
            yield Node(ENTRY, path, frozenset(), (), path[-1], ("workflow_id",))


def is_wide(node: Node, tables: Tables) -> bool:
    """Whether one row at this node may reach any number of roots."""
    return any(_multiplies(node, edge, tables) for edge in node.path)


def _multiplies(node: Node, edge: Edge, tables: Tables) -> bool:
    """Whether climbing an edge of the path may lead from one row to any number.

    Up a `many` edge there is one parent, and up a `one` edge one row where its columns hold the whole key. An entry has
    one workflow; all else that shares a workflow may be many.
    """
    if edge.kind == "one":
        return not set(tables.entities[edge.source].key) <= set(edge.source_columns)
    of_workflow = node.entry_of == edge == node.path[-1] and edge.source == WORKFLOW
    return edge.kind == "workflow" and not of_workflow


def affected_select(node: Node, view: ViewModel, tables: Tables, touched: str, flag: str) -> str:
    """SELECT of root keys (as the view names them) that rows in `touched` with `flag` set reach through `node`."""
    if not node.path:
        return f"SELECT {columns_sql(view.key)} FROM {touched} WHERE {flag}"
    return roots_select(node, view, tables, starts_select(node, tables, touched, flag))


def differences_select(node: Node, view: ViewModel, tables: Tables, touched: str, flag: str) -> str:
    """SELECT of what `affected_select` does, and of what each row of `touched` adds to the kept columns of the root."""
    edge, key = node.path[0], set(tables.entities[node.entity].key)
    names = [*edge.target_columns, *sorted(columns_read(node.kept))]
    sides = []
    for sign, side in ((-1, "old"), (1, "new")):
        columns = ", ".join(
            quote(name) if name in key else f"{quote(f'{side}_{name}')} AS {quote(name)}"
            for name in dict.fromkeys(names)
        )
        sides.append(f"SELECT {sign} AS _sign, {columns} FROM {touched} WHERE {flag} AND _{side}")
    parent = " AND ".join(f"c.{quote(name)} IS NOT NULL" for name in edge.target_columns)
    root = [
        f"c.{quote(ours)} AS {quote(theirs)}"
        for ours, theirs in zip(edge.target_columns, view.key, strict=True)
    ]
    added = [f"{difference_sql(kept.rollup, tables, 'c', 'c._sign')} AS {kept.name}" for kept in node.kept]
    return f"SELECT {', '.join([*root, *added])} FROM ({' UNION ALL '.join(sides)}) AS c WHERE {parent}"


def starts_select(node: Node, tables: Tables, touched: str, flag: str) -> str:
    """SELECT of the values of `node.start` in rows of `touched` with `flag` set: of a `many` child old and new ones."""
    names = columns_sql(node.start)
    if node.entry_of is not None or node.path[-1].kind != "many":
        return f"SELECT {names} FROM {touched} WHERE {flag}"
    key = set(tables.entities[node.entity].key)
    sides = [
        ", ".join(quote(c) if c in key else quote(f"{side}_{c}") for c in node.start)
        for side in ("old", "new")
    ]
    rows = " UNION ".join(f"SELECT {side} FROM {touched} WHERE {flag}" for side in dict.fromkeys(sides))
    # A child without a parent, as one that came had before, reaches nothing.
    parent = " AND ".join(f"{quote(c)} IS NOT NULL" for c in node.start)
    return f"SELECT * FROM ({rows}) AS sides({names}) WHERE {parent}"


def roots_select(node: Node, view: ViewModel, tables: Tables, starts: str) -> str:
    """SELECT of root keys, some several times, that are reached through `node` from the rows that `starts` selects."""
    return walks(node, view, tables, starts)[-1]


def walks(node: Node, view: ViewModel, tables: Tables, starts: str) -> list[str]:
    """The SELECT of `roots_select`, and before it those of the way to it that may have more rows than it has.

    Who wants to read a bounded number of rows must count them one after the other: many orders may have no line.
    """
    walk, found = _Walk(tables), list[str]()
    climbs = node.path[::-1]
    if node.entry_of is None:
        walk.start(f"({starts})", node.start)
    for number, edge in enumerate(climbs):
        if number == 0 and node.entry_of is not None:
            walk.start_at_entries(edge, f"({starts})")
        elif edge.kind == "one":
            walk.climb_one(edge)
        elif edge.kind == "many":
            walk.climb_many(edge)
        else:
            walk.climb_workflow(edge)
        reads_on = any(later.kind != "many" for later in climbs[number + 1 :])
        if reads_on and _multiplies(node, edge, tables):
            found.append(f"SELECT 1 FROM {walk.source}")
    return [*found, f"SELECT {walk.columns_as(view.key)} FROM {walk.source}"]


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

    def start_at_entries(self, edge: Edge, starts: str) -> None:
        """From workflows whose entries changed to the rows of `edge.source` that share them."""
        entries, source = self.tables.table(ENTRY), self.tables.entities[edge.source]
        if edge.source == WORKFLOW:
            self.start(f"(SELECT DISTINCT workflow_id FROM {starts} AS c)", ("workflow_id",))
            return
        service, name = edge.source.split(".")
        # Not DISTINCT: whoever asks for a few of the roots would wait for all entries.
        rows = (
            f"(SELECT e.key FROM {starts} c JOIN {entries} e ON e.workflow_id = c.workflow_id "
            f"WHERE e.service = '{service}' AND e.entity = '{name}')"
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


__all__ = [
    "Node",
    "affected_select",
    "differences_select",
    "is_wide",
    "nodes",
    "roots_select",
    "starts_select",
    "walks",
]
