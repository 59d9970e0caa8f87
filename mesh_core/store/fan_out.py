"""The fan-out queue: changes that reach more roots of a view than one transaction should recompute.

A row of mesh.fan_out names a place in the view's tree (`node`) and what the walk to the roots starts from there
(`key`): of a `one` neighbour its key, of a `many` child the parent's, old and new, of an entry its workflow. The walk
is done anew, over the tables as they then are, by whoever drains the row.

Why no root is missed. After every commit, a root whose row is not what its definition gives is reached from some queued
key that has it still before it. Take a commit after which a root differs.

- It did not differ before. Then the commit touched it (affected.py says why), so it was recomputed, or the key from
  which it is reached was queued anew, with all roots before it.
- It differed before, so a queued key reached it through a chain of rows. If the chain is whole, it still does. If this
  commit broke it (a root or a child went to another neighbour), take the chain's topmost row that changed. Above it
  the chain is whole, so walking up from that row, by its old values where it is a `many` child, reaches the root: its
  own change recomputes it, or queues that row's key.
- The commit was a drain. It recomputes what it takes from the list of roots that it made before; a root that came to
  the neighbour after the list was made came by a change of its own, which is the case before. Whatever changed the
  neighbour after the list was made counts up `changes`, and the list is not used.

All that rests on the view's lock: whoever queues, refreshes or drains holds it, one after the other, and reads in fresh
statements. A drain takes no checkpoint and writes no entity row, so it comes after these in the order of locks.

Roots are done in the order of their keys, in a round: `after` is the last one done. A new change sets `until` to it and
the round goes on from there, past the end of the keys and on from the beginning up to `until`. Starting anew at each
change would never come to the last keys of a neighbour that changes often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg

from mesh_core.model.view_model import ViewModel
from mesh_core.store.affected import Node, roots_select, walks
from mesh_core.store.connections import rows_written
from mesh_core.store.tables import columns_sql, literal, quote
from mesh_core.store.view_query import Tables

LIMIT = 25_000
"""Roots that one transaction recomputes for one node of a view, unless MESH_FAN_OUT_LIMIT says otherwise."""
MAX_KEYS = 1000
"""Queued keys whose roots are listed together."""


@dataclass
class Listed:
    """Roots that a queued key still has before it, as JSON arrays in the order of the round.

    `whole`: there are no more. `after` and `changes` are as they were when the list was made; the list is of use as
    long as they are what the row says.
    """

    id: int
    changes: int
    after: str | None
    roots: list[str]
    whole: bool


@dataclass(frozen=True)
class FanOut:
    """The fan-out queue of one view version."""

    version_id: int
    model: ViewModel
    tables: Tables
    nodes: Sequence[Node]

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by what the queue calls them."""
        return {node.name: node for node in self.nodes}

    def split(self, cursor: psycopg.Cursor[Any], node: Node, starts: str, into: str, limit: int) -> int:
        """Put the roots that few of `starts` reach into the table `into`, and queue the keys that reach many.

        Each of the starts gets the same part of the limit; nothing is read beyond it. The answer is how many roots it
        put. The view's lock must be held.
        """
        names, key = columns_sql(node.start), self.model.key
        connection = cursor.connection
        row = connection.execute(
            f"SELECT count(*) FROM (SELECT DISTINCT * FROM ({starts}) AS s) AS s"
        ).fetchone()
        share = limit // row[0] if row and row[0] else limit
        ways = self._walks(node)
        known = " AND ".join(f"k.{quote(name)} = near.{quote(name)}" for name in key)
        putting = connection.execute(
            f"WITH starts AS MATERIALIZED (SELECT DISTINCT * FROM ({starts}) AS s), "
            f"counted AS MATERIALIZED (SELECT s.*, {self._count(ways, share)} AS _reached FROM starts s), "
            f"queued AS ({self._note(node, f'SELECT {names} FROM counted WHERE _reached > {share}')}) "
            f"INSERT INTO {into} ({columns_sql(key)}) SELECT DISTINCT near.* FROM counted s "
            f"CROSS JOIN LATERAL ({ways[-1]} LIMIT {share + 1}) AS near WHERE s._reached <= {share} "
            f"AND NOT EXISTS (SELECT FROM {into} k WHERE {known}) ON CONFLICT DO NOTHING"
        )
        return rows_written(putting)

    def within(self, node: Node, starts: str, limit: int) -> tuple[str, str]:
        """SELECT of the roots that `starts` reach, up to one more than `limit`, and whether the way there is too long.

        Then the SELECT has none. Each start is followed by itself: a plan that joins whole tables could read all.
        """
        ways = [
            f"SELECT way.* FROM ({starts}) AS s CROSS JOIN LATERAL ({way} LIMIT {limit + 1}) AS way"
            for way in self._walks(node)
        ]
        *before, roots = ways
        far = f"{self._count(before, limit)} > {limit}" if before else "false"
        return f"SELECT * FROM ({roots}) AS r WHERE NOT ({far}) LIMIT {limit + 1}", far

    def _walks(self, node: Node) -> list[str]:
        """The walks to the roots from one start `s`."""
        return walks(node, self.model, self.tables, f"SELECT {columns_sql(node.start, 's')}")

    @staticmethod
    def _count(ways: Sequence[str], limit: int) -> str:
        """The number of rows of the last of `ways`, or one more than `limit` if that or one before it has more."""
        *before, last = [f"(SELECT count(*) FROM ({way} LIMIT {limit + 1}) AS way)" for way in ways]
        cases = "".join(f"WHEN {count} > {limit} THEN {limit + 1} " for count in before)
        return f"CASE {cases}ELSE {last} END" if cases else last

    def _note(self, node: Node, starts: str) -> str:
        """Queue keys, each with all its roots before it, from where a drain has got to on."""
        return (
            "INSERT INTO mesh.fan_out AS f (version_id, node, key, hash) "
            f"SELECT {self.version_id}, {literal(node.name)}, key, sha256(convert_to({literal(node.name)} || key::text, 'UTF8')) "
            f"FROM (SELECT jsonb_build_array({columns_sql(node.start)}) AS key FROM ({starts}) AS s) AS s "
            "ON CONFLICT (version_id, hash) DO UPDATE SET until = f.after, changes = f.changes + 1"
        )

    def upcoming(self, cursor: psycopg.Cursor[Any], name: str, limit: int) -> Sequence[Listed]:
        """Up to `limit` of the roots that the keys queued at the node `name` have still before them, each the same part.

        Takes no lock that a projector waits for; but while it runs the version cannot be pruned.
        """
        node = self.by_name[name]
        row = cursor.execute(
            "SELECT count(*) FROM mesh.fan_out WHERE version_id = %s AND node = %s", (self.version_id, name)
        ).fetchone()
        share = max(1, limit // min(MAX_KEYS, max(1, row[0] if row else 1)))
        # A root has one neighbour over a `one` edge, and so is met once; sorting out repetitions takes a while.
        distinct = "" if all(edge.kind == "one" for edge in node.path) else "DISTINCT "
        cursor.execute(
            "SELECT f.id, f.changes, f.after::text, r.roots "
            "FROM (SELECT * FROM mesh.fan_out WHERE version_id = %s AND node = %s ORDER BY id LIMIT %s "
            "FOR KEY SHARE SKIP LOCKED) AS f CROSS JOIN LATERAL (SELECT array_agg(o.root) AS roots FROM "
            f"(SELECT jsonb_build_array({columns_sql(self.model.key, 'w')})::text AS root "
            f"FROM (SELECT {distinct}* FROM ({self._roots(node)}) AS w WHERE {self._before}) AS w "
            f"ORDER BY NOT {self._past}, {self._root} LIMIT %s) AS o) AS r ORDER BY f.id",
            (self.version_id, name, MAX_KEYS, share + 1),
        )
        return [
            Listed(id_, changes, after, (roots or [])[:share], len(roots or ()) <= share)
            for id_, changes, after, roots in cursor.fetchall()
        ]

    def take(
        self, cursor: psycopg.Cursor[Any], listed: Sequence[Listed], into: str, limit: int
    ) -> Sequence[Listed]:
        """Put up to `limit` listed roots into the empty table `into`, and move the cursors past them.

        The answer is what is listed then: that whose row has changed meanwhile is not. The view's lock must be held.
        """
        cursor.execute(
            "SELECT id, changes, after::text FROM mesh.fan_out WHERE id = ANY(%s) FOR UPDATE SKIP LOCKED",
            ([each.id for each in listed],),
        )
        current = {(id_, changes, after) for id_, changes, after in cursor.fetchall()}
        taken: list[str] = []
        left: list[Listed] = []
        done: list[int] = []
        moved: list[tuple[int, str]] = []
        for each in listed:
            if (each.id, each.changes, each.after) not in current:
                continue
            part = each.roots[: limit - len(taken)]
            taken += part
            rest = each.roots[len(part) :]
            if each.whole and not rest:
                done.append(each.id)
            elif part:
                moved.append((each.id, part[-1]))
            if rest:
                left.append(Listed(each.id, each.changes, part[-1] if part else each.after, rest, each.whole))
        columns = ", ".join(f"(k::jsonb ->> {n})::{kind}" for n, kind in enumerate(self._types))
        cursor.execute(
            f"INSERT INTO {into} ({columns_sql(self.model.key)}) SELECT DISTINCT {columns} FROM unnest(%s::text[]) AS k",
            (taken,),
        )
        cursor.execute("DELETE FROM mesh.fan_out WHERE id = ANY(%s)", (done,))
        cursor.execute(
            "UPDATE mesh.fan_out f SET after = m.after::jsonb FROM unnest(%s::bigint[], %s::text[]) AS m(id, after) "
            "WHERE f.id = m.id",
            ([id_ for id_, _ in moved], [after for _, after in moved]),
        )
        return left

    def pending(self, names: Sequence[str]) -> str:
        """SELECT of the roots, some several times, that the keys queued at the nodes of these names have before them."""
        return " UNION ALL ".join(
            f"SELECT {columns_sql(self.model.key, 'w')} FROM mesh.fan_out f CROSS JOIN LATERAL "
            f"({self._roots(self.by_name[name])}) AS w "
            f"WHERE f.version_id = {self.version_id} AND f.node = {literal(name)} AND {self._before}"
            for name in names
        )

    @cached_property
    def _types(self) -> Sequence[str]:
        root = self.tables.entities[self.model.root]
        return [root.column(name).type.sql for name in self.model.key]

    def _roots(self, node: Node) -> str:
        """The walk from the key of queue row `f`."""
        entity = self.tables.entities[node.entity]
        values = ", ".join(
            f"(f.key ->> {n})::{entity.column(name).type.sql} AS {quote(name)}"
            for n, name in enumerate(node.start)
        )
        return roots_select(node, self.model, self.tables, f"SELECT {values}")

    @cached_property
    def _root(self) -> str:
        return ", ".join(
            f'w.{quote(name)} COLLATE "C"' if kind == "text" else f"w.{quote(name)}"
            for name, kind in zip(self.model.key, self._types, strict=True)
        )

    def _place(self, column: str) -> str:
        """A root key in a column of queue row `f`, as a row to compare with."""
        parts = ", ".join(
            f"(f.{column} ->> {n})::{kind}" + (' COLLATE "C"' if kind == "text" else "")
            for n, kind in enumerate(self._types)
        )
        return f"ROW({parts})"

    @cached_property
    def _past(self) -> str:
        return f"(f.after IS NULL OR ROW({self._root}) > {self._place('after')})"

    @cached_property
    def _before(self) -> str:
        """Whether root `w` is before the cursor of queue row `f`: the round has not come to it."""
        until, after = self._place("until"), self._place("after")
        return (
            f"CASE WHEN f.until IS NULL THEN {self._past} "
            f"WHEN f.after IS NOT NULL AND {after} >= {until} THEN {self._past} OR ROW({self._root}) <= {until} "
            f"ELSE {self._past} AND ROW({self._root}) <= {until} END"
        )


def pending_nodes(cursor: psycopg.Cursor[Any]) -> Iterator[tuple[int, str]]:
    """(version id, node name) of all that is queued, in a fixed order."""
    cursor.execute("SELECT DISTINCT version_id, node FROM mesh.fan_out ORDER BY version_id, node")
    yield from cursor.fetchall()


def queued(cursor: psycopg.Cursor[Any], version_id: int) -> set[tuple[str, int, int]]:
    """(node name, id, changes) of what is queued of one view version."""
    cursor.execute("SELECT node, id, changes FROM mesh.fan_out WHERE version_id = %s", (version_id,))
    return set(cursor.fetchall())


__all__ = ["LIMIT", "FanOut", "Listed", "pending_nodes", "queued"]
