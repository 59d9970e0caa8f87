"""Keeping one view version up to date: affected roots, then their rows, in set-based statements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg

from mesh_core.model.view import ViewModel
from mesh_core.store.affected import Node, affected_select, nodes
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.tables import columns_sql, physical, queue_name, quote, temporary_table
from mesh_core.store.view_query import Tables, equal, view_select

LOCK_SPACE = 0x76696577  # "view": the first half of a view's advisory lock, the second is its version id


@dataclass
class ViewVersion:
    """A version of a view that is kept up, with the entity versions it reads."""

    id: int
    model: ViewModel
    relation: str
    tables: Tables
    sources: Mapping[str, EntityVersion]

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """Every place in the tree where a row of an entity matters."""
        return tuple(nodes(self.model, self.tables))

    @property
    def keys(self) -> str:
        """The session's table of touched root keys, as an SQL name."""
        return quote(f"keys_{self.relation}")

    @property
    def queue(self) -> str:
        """The table of root keys that were touched while the view was being filled, as an SQL name."""
        return physical(queue_name(self.relation))

    def temporary_tables(self) -> Iterable[str]:
        """Statements that make the session's tables."""
        root = self.tables.entities[self.model.root]
        columns = [f"{quote(name)} {root.column(name).type.sql}" for name in self.model.key]
        yield from temporary_table(self.keys, columns)

    def lock(self, cursor: psycopg.Cursor[Any]) -> None:
        """Take the view for this transaction; waits for others that hold it."""
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_SPACE, self.id))

    def is_touched(self, cursor: psycopg.Cursor[Any], written: Collection[int]) -> bool:
        """Whether rows that the batch wrote to the entity versions `written` can change this view."""
        tests = [
            f"EXISTS (SELECT FROM {self.sources[node.entity].touched} WHERE {self._flag(node)})"
            for node in self.nodes
            if self.sources[node.entity].id in written
        ]
        if not tests:
            return False
        row = cursor.execute(f"SELECT {' OR '.join(dict.fromkeys(tests))}").fetchone()
        return bool(row and row[0])

    def refresh(self, cursor: psycopg.Cursor[Any], written: Collection[int]) -> int:
        """Recompute the rows that the batch touched; how many roots that were. The lock must be held."""
        cursor.execute(f"INSERT INTO {self.keys} {self._affected(written)}")
        affected = cursor.rowcount
        self._recompute(cursor, roots_changed=self.sources[self.model.root].id in written)
        return affected

    def note(self, cursor: psycopg.Cursor[Any], written: Collection[int]) -> None:
        """Queue the roots that the batch touched, of a view that is being filled. The lock must be held."""
        cursor.execute(f"INSERT INTO {self.queue} {self._affected(written)} ON CONFLICT DO NOTHING")

    def drain(self, cursor: psycopg.Cursor[Any], limit: int) -> int:
        """Recompute up to `limit` queued roots; how many there were. The lock must be held."""
        names = columns_sql(self.model.key)
        cursor.execute(
            f"WITH taken AS (DELETE FROM {self.queue} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {self.queue} LIMIT %s)) "
            f"RETURNING {names}) INSERT INTO {self.keys} ({names}) SELECT {names} FROM taken",
            (limit,),
        )
        taken = cursor.rowcount
        self._recompute(cursor, roots_changed=True)
        return taken

    def _affected(self, written: Collection[int]) -> str:
        selects = [
            affected_select(
                node, self.model, self.tables, self.sources[node.entity].touched, self._flag(node)
            )
            for node in self.nodes
            if self.sources[node.entity].id in written
        ]
        return f"SELECT DISTINCT * FROM ({' UNION ALL '.join(selects)}) AS affected"

    def _recompute(self, cursor: psycopg.Cursor[Any], *, roots_changed: bool) -> None:
        if roots_changed:
            cursor.execute(self._delete)
        cursor.execute(self._upsert)

    def fill(self, cursor: psycopg.Cursor[Any]) -> int:
        """Compute all rows of an empty version; how many there are."""
        names = columns_sql(column.name for column in self.model.columns)
        cursor.execute(
            f"INSERT INTO {physical(self.relation)} ({names}) {view_select(self.model, self.tables)}"
        )
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

    @cached_property
    def _upsert(self) -> str:
        key = set(self.model.key)
        names = [column.name for column in self.model.columns]
        values = [name for name in names if name not in key]
        text = (
            f"INSERT INTO {physical(self.relation)} AS v ({columns_sql(names)}) "
            f"{view_select(self.model, self.tables, self.keys)} ON CONFLICT ({columns_sql(self.model.key)}) "
        )
        if not values:
            return text + "DO NOTHING"
        changes = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in values)
        # Rows that came out the same are left alone: no dead tuple, no change for anyone who watches.
        differs = " OR ".join(f"v.{quote(name)} IS DISTINCT FROM excluded.{quote(name)}" for name in values)
        return f"{text}DO UPDATE SET {changes} WHERE {differs}"
