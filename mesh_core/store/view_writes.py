"""Keeping one view version up to date: affected roots, then their rows, in set-based statements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import psycopg

from mesh_core.model.view_model import ViewModel
from mesh_core.store import scratch
from mesh_core.store.affected import (
    Node,
    affected_select,
    differences_select,
    is_wide,
    nodes,
    starts_select,
)
from mesh_core.store.connections import rows_written
from mesh_core.store.differences import Kept
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.fan_out import FanOut, Listed
from mesh_core.store.scratch import Scratch
from mesh_core.store.tables import columns_sql, physical, queue_name, quote
from mesh_core.store.view_query import Tables, equal, view_select

MANY = 2_000
"""Roots from which on their children are grouped all at once: 1.2 times as fast of 20,000 roots with 5 children each."""
LOCK_SPACE = 0x76696577  # "view": the first half of a view's advisory lock, the second is its version id


@dataclass
class ViewVersion:
    """A version of a view that is kept up, with the entity versions it reads."""

    id: int
    model: ViewModel
    relation: str
    tables: Tables
    sources: Mapping[str, EntityVersion]
    scratch: Scratch = field(default_factory=Scratch)
    _upserts: dict[tuple[bool, bool], str] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """Every place in the tree where a row of an entity matters."""
        return tuple(nodes(self.model, self.tables))

    @cached_property
    def kept(self) -> Sequence[Kept]:
        """The columns that are kept by difference."""
        return tuple(kept for node in self.nodes for kept in node.kept)

    @cached_property
    def wide(self) -> Sequence[Node]:
        """The nodes of which one row may reach any number of roots."""
        return tuple(node for node in self.nodes if is_wide(node, self.tables))

    @cached_property
    def fan_out(self) -> FanOut:
        """The queue of changes that reach many roots."""
        return FanOut(self.id, self.model, self.tables, self.wide)

    @property
    def keys(self) -> str:
        """The session's table of touched root keys, and of how much their kept columns change, as an SQL name."""
        return quote(f"keys_{self.relation}")

    @property
    def queue(self) -> str:
        """The table of root keys that were touched while the view was being filled, as an SQL name."""
        return physical(queue_name(self.relation))

    def temporary_tables(self) -> Iterable[str]:
        """Statements that make the session's tables."""
        root = self.tables.entities[self.model.root]
        columns = [f"{quote(name)} {root.column(name).type.sql}" for name in self.model.key]
        changes = [f"{kept.name} {kept.type} DEFAULT 0" for kept in self.kept]
        yield from scratch.table(self.keys, [*columns, *changes])

    def lock(self, cursor: psycopg.Cursor[Any]) -> None:
        """Take the view for this transaction; waits for others that hold it."""
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_SPACE, self.id))

    def try_lock(self, cursor: psycopg.Cursor[Any]) -> bool:
        """Take the view for this transaction unless others hold it; whether it was taken."""
        row = cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_SPACE, self.id)).fetchone()
        return bool(row and row[0])

    def ask_touched(
        self, connection: psycopg.Connection[Any], written: Collection[int]
    ) -> Callable[[], bool]:
        """Ask whether rows that the batch wrote to the entity versions `written` can change this view."""
        tests = [
            f"EXISTS (SELECT FROM {self.sources[node.entity].touched} WHERE {self._flag(node)})"
            for node in self.nodes
            if self.sources[node.entity].id in written
        ]
        if not tests:
            return lambda: False
        cursor = connection.execute(f"SELECT {' OR '.join(dict.fromkeys(tests))}")

        def answer() -> bool:
            row = cursor.fetchone()
            return bool(row and row[0])

        return answer

    def refresh(self, cursor: psycopg.Cursor[Any], written: Mapping[int, bool], limit: int) -> None:
        """Recompute the rows that the batch touched, of a wide node up to about `limit`; what reaches more is queued.

        `written` says of entity versions whether rows of theirs may have gone. The lock must be held.
        """
        roots = self._spread(cursor, written, self.keys, limit, kept=self.kept)
        self.scratch.note(self.keys, roots)
        roots_gone = written.get(self.sources[self.model.root].id, False)
        self._recompute(cursor, roots, roots_gone=roots_gone, by_difference=True)

    def note(self, cursor: psycopg.Cursor[Any], written: Collection[int], limit: int) -> None:
        """Queue what `refresh` would do, of a view that is being filled. The lock must be held."""
        self._spread(cursor, written, self.queue, limit)

    def drain(self, cursor: psycopg.Cursor[Any], limit: int) -> int:
        """Recompute up to `limit` queued roots; how many there were. The lock must be held."""
        names = columns_sql(self.model.key)
        cursor.execute(
            f"WITH taken AS (DELETE FROM {self.queue} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {self.queue} LIMIT %s)) "
            f"RETURNING {names}) INSERT INTO {self.keys} ({names}) SELECT {names} FROM taken",
            (limit,),
        )
        taken = rows_written(cursor)
        self.scratch.note(self.keys, taken)
        self._recompute(cursor, taken, roots_gone=True)
        return taken

    def drain_fan_out(
        self, cursor: psycopg.Cursor[Any], listed: Sequence[Listed], limit: int
    ) -> Sequence[Listed]:
        """Recompute up to `limit` roots of the fan-out queue; what is listed after that. The lock must be held."""
        roots = min(limit, sum(len(each.roots) for each in listed))
        left = self.fan_out.take(cursor, listed, self.keys, limit)
        self.scratch.note(self.keys, roots)
        self._recompute(cursor, roots, roots_gone=False)  # a root that went took its row with it
        return left

    def _spread(
        self,
        cursor: psycopg.Cursor[Any],
        written: Collection[int],
        into: str,
        limit: int,
        kept: Sequence[Kept] = (),
    ) -> int:
        """Put the roots that the batch touched into the empty table `into`, or keys into the fan-out queue.

        With each root goes by how much its `kept` columns change. The answer is about how many roots are in `into`.
        """
        touched = [node for node in self.nodes if self.sources[node.entity].id in written]
        wide = [node for node in touched if node in self.wide]
        sources = [self._affected(node, kept) for node in touched if node not in wide]
        reached, counts = "", list[str]()
        for n, node in enumerate(wide):
            # One more than the limit tells that there are too many, and that is all that is read of them.
            reaching, far = self.fan_out.within(node, self._starts(node), limit)
            reached += f"reached{n} AS MATERIALIZED ({reaching}), "
            few = f"(SELECT count(*) FROM reached{n}) <= {limit}"
            sources.append(f"SELECT *{', 0' * len(kept)} FROM reached{n} WHERE {few}")
            counts.append(f"{far} OR (SELECT count(*) FROM reached{n}) > {limit}")
        names = columns_sql([*self.model.key, *(each.name for each in kept)])
        affected = f"({' UNION ALL '.join(sources)}) AS affected({names})"
        roots = f"SELECT DISTINCT * FROM {affected}"
        if kept:
            key, changes = columns_sql(self.model.key), ", ".join(f"sum({each.name})" for each in kept)
            roots = f"SELECT {key}, {changes} FROM {affected} GROUP BY {key}"
        row = cursor.connection.execute(
            f"WITH {reached}put AS (INSERT INTO {into} ({names}) {roots} ON CONFLICT DO NOTHING RETURNING 1) "
            f"SELECT {', '.join(['(SELECT count(*) FROM put)', *counts])}"
        ).fetchone()
        assert row is not None
        number, *far = row
        for node, too_many in zip(wide, far, strict=True):
            if too_many:
                number += self.fan_out.split(cursor, node, self._starts(node), into, limit)
        return int(number)

    def _starts(self, node: Node) -> str:
        return starts_select(node, self.tables, self.sources[node.entity].touched, self._flag(node))

    def _affected(self, node: Node, kept: Sequence[Kept]) -> str:
        select = differences_select if kept and node.kept else affected_select
        affected = select(node, self.model, self.tables, self.sources[node.entity].touched, self._flag(node))
        if not kept:
            return affected
        changes = "".join(f", {each.name if each in node.kept else 0}" for each in kept)
        return f"SELECT {columns_sql(self.model.key)}{changes} FROM ({affected}) AS a"

    def _recompute(
        self, cursor: psycopg.Cursor[Any], roots: int, *, roots_gone: bool, by_difference: bool = False
    ) -> None:
        if roots_gone:
            cursor.execute(self._delete)
        cursor.execute(self.upsert(many=roots >= MANY, by_difference=by_difference))

    def fill(self, cursor: psycopg.Cursor[Any]) -> int:
        """Compute all rows of an empty version; how many there are."""
        names = columns_sql(column.name for column in self.model.columns)
        cursor.execute(
            f"INSERT INTO {physical(self.relation)} ({names}) {view_select(self.model, self.tables)}"
        )
        return cursor.rowcount

    def fill_only(self, cursor: psycopg.Cursor[Any], keys: Sequence[Sequence[str]]) -> int:
        """Compute the rows of these keys, told as texts, of an empty version; how many there are."""
        for statement in self.temporary_tables():
            cursor.execute(statement)
        root = self.tables.entities[self.model.root]
        texts = ", ".join("%s::text[]" for _ in self.model.key)
        values = ", ".join(f"k{n}::{root.column(name).type.sql}" for n, name in enumerate(self.model.key))
        names = ", ".join(f"k{n}" for n in range(len(self.model.key)))
        columns = [list(column) for column in zip(*keys, strict=True)] or [[] for _ in self.model.key]
        cursor.execute(
            f"INSERT INTO {self.keys} ({columns_sql(self.model.key)}) "
            f"SELECT DISTINCT {values} FROM unnest({texts}) AS k({names})",
            columns,
        )
        cursor.execute(self.upsert(many=True, by_difference=False))
        return cursor.rowcount

    def _flag(self, node: Node) -> str:
        return self.sources[node.entity].flags[node.relevant]

    @cached_property
    def _delete(self) -> str:
        key = self.model.key
        return (
            f"DELETE FROM {physical(self.relation)} v USING {self.keys} k WHERE {equal('v', key, 'k', key)} AND NOT EXISTS "
            f"(SELECT FROM {self.tables.table(self.model.root)} r WHERE {equal('r', key, 'k', key)})"
        )

    def upsert(self, *, many: bool, by_difference: bool) -> str:
        """The statement that recomputes the touched roots."""
        text = self._upserts.get((many, by_difference))
        if text is None:
            text = self._upserts[many, by_difference] = self._upsert(many, by_difference)
        return text

    def _upsert(self, many: bool, by_difference: bool) -> str:
        key = set(self.model.key)
        before = physical(self.relation) if by_difference else None
        names = [column.name for column in self.model.columns]
        values = [name for name in names if name not in key]
        rows = view_select(self.model, self.tables, self.keys, many=many, before=before)
        text = (
            f"INSERT INTO {physical(self.relation)} AS v ({columns_sql(names)}) {rows} "
            f"ON CONFLICT ({columns_sql(self.model.key)}) "
        )
        if not values:
            return text + "DO NOTHING"
        changes = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in values)
        # Rows that came out the same are left alone: no dead tuple, no change for anyone who watches.
        differs = " OR ".join(f"v.{quote(name)} IS DISTINCT FROM excluded.{quote(name)}" for name in values)
        return f"{text}DO UPDATE SET {changes} WHERE {differs}"
