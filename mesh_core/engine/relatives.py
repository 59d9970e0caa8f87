"""Which records can have had to do with one row of a view: the record keys of all rows that ever were in its tree.

It is found by closure: the root's key leads over the edges to the record keys of other rows, by the values that events
gave the columns of the edges, whatever came of those events. So more may be found than mattered, and never less. Only
keys are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mesh_core.engine.references import References
from mesh_core.engine.routing import Router
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.identifiers import key_parts, key_text
from mesh_core.model.paths import Edge, Path
from mesh_core.store.entity_writes import EntityVersion
from mesh_core.store.lookups import Entry
from mesh_core.store.tables import WORKFLOW
from mesh_core.store.view_writes import ViewVersion

Reading = tuple[Router, str, Sequence[Any]]
"""A record as one router reads it: the key, and the events that it is or that edits put in its place."""


@dataclass(eq=False)
class Spot:
    """A place in the view's tree, and the record keys of the rows that may have been there; `every`: all there are.

    `references` are those of the rows that have the columns of the edge: above a `one` edge, below a `many` edge.
    """

    version: EntityVersion
    up: Spot | None = None
    edge: Edge | None = None
    references: References | None = None
    downs: list[Spot] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    every: bool = False

    @property
    def topic(self) -> str:
        """The topic that feeds its entity."""
        return self.version.model.topic

    @property
    def is_direct(self) -> bool:
        """Whether the record key above tells the record key here, since the columns of a `many` edge are that."""
        assert self.up is not None
        assert self.edge is not None
        above = dict(zip(self.edge.target_columns, self.edge.source_columns, strict=True))
        return all(
            above.get(name) in self.up.version.model.record_key for name in self.version.model.record_key
        )

    @property
    def is_searched(self) -> bool:
        """Whether the events of its topic have to be read to know which rows are here."""
        return self.edge is not None and self.edge.kind == "many" and not self.is_direct


class Relatives:
    """Record keys of the rows that may have been in the tree of one row. `stale` are topics that have to be read (again).

    `topics` are all that can be read. `entries` tells those of an entity in workflows that have one of some keys, or are in
    one of some workflows.
    """

    def __init__(
        self,
        view: ViewVersion,
        record_key: str,
        topics: Iterable[str],
        entries: Callable[[str, Sequence[str], Sequence[UUID]], Iterable[Entry]],
    ) -> None:
        self._entries, self._topics = entries, topics
        self.stale: set[str] = set()
        self.everything = False
        """Whether every record may matter."""
        self.raw: dict[str, set[bytes | None]] = {}
        """Record keys that matter, by topic, as they are in the log."""
        self.texts: dict[str, set[str]] = {}
        """The same as text; a key that is no UTF-8, or not there, has one, too."""
        self._spots = list(_spots(view))
        self._by_topic: dict[str, list[Spot]] = {}
        for spot in self._spots:
            self._by_topic.setdefault(spot.topic, []).append(spot)
        self._linked: dict[Spot, int] = {}
        self._add(self._spots[0], record_key)

    def is_odd(self, topic: str) -> bool:
        """Whether other record keys may have the text of one that matters."""
        return any("\\" in text for text in self.texts.get(topic, ()))

    def searches(self, topic: str) -> bool:
        """Whether every event of a topic has to be read, not only those of known keys."""
        return self.everything or any(
            spot.every or (spot.is_searched and spot.up is not None and (spot.up.keys or spot.up.every))
            for spot in self._by_topic.get(topic, ())
        )

    def learns(self, topic: str) -> bool:
        """Whether what events of known keys say leads on."""
        return any(
            spot.is_searched or any(down.edge is not None and down.edge.kind == "one" for down in spot.downs)
            for spot in self._by_topic.get(topic, ())
        )

    def also(self, topic: str, text: str) -> None:
        """Records of this key matter, too, whatever rows they make."""
        if text not in self.texts.setdefault(topic, set()):
            self.texts[topic].add(text)
            raw = self.raw.setdefault(topic, set())
            raw.add(text.encode())
            if not text:
                raw.add(None)
            self.stale.add(topic)

    def meet(self, topic: str, readings: Sequence[Reading]) -> bool:
        """Learn from a record; whether it matters, as far as is known."""
        matters = self.everything
        for router, text, items in readings:
            matters = matters or text in self.texts.get(topic, ())
            for spot in self._by_topic.get(topic, ()):
                if spot.version.id not in router.versions:
                    continue
                if spot.is_searched and spot.references is not None and spot.up is not None:
                    for found in _texts(spot.references, spot.version, router, topic, items):
                        if spot.up.every or found in spot.up.keys:
                            self._add(spot, text)
                if spot.every or text in spot.keys:
                    matters = True
                    self._follow(spot, router, topic, items)
        return matters

    def link(self) -> None:
        """Follow the edges over workflows, as far as the rows that are known lead."""
        for spot in self._spots:
            if spot.edge is None or spot.edge.kind != "workflow" or spot.up is None:
                continue
            if spot.up.every:
                self._all()
            elif self._linked.get(spot) != len(spot.up.keys):
                self._linked[spot] = len(spot.up.keys)
                self._link(spot, spot.edge, spot.up)

    def _link(self, spot: Spot, edge: Edge, up: Spot) -> None:
        flows = set[UUID]()
        if edge.source == WORKFLOW:
            flows.update(UUID(text) for text in up.keys)
        else:
            for entry in self._entries(edge.source, sorted(up.keys), ()):
                flows.add(entry.workflow_id)
                self._registered(entry)
        if edge.target == WORKFLOW:
            for flow in flows:
                self._add(spot, str(flow))
        elif flows:
            for entry in self._entries(edge.target, (), sorted(flows)):
                self._registered(entry)
                self._add(spot, entry.key)

    def _registered(self, entry: Entry) -> None:
        """The records that made an entry: events that name the workflow, or one that says so by hand."""
        self.also(entry.origin, entry.key)
        if entry.origin == MESH_TOPIC:
            self.also(MESH_TOPIC, str(entry.workflow_id))

    def _follow(self, spot: Spot, router: Router, topic: str, items: Sequence[Any]) -> None:
        for down in spot.downs:
            if down.edge is not None and down.edge.kind == "one" and down.references is not None:
                for found in _texts(down.references, spot.version, router, topic, items):
                    self._add(down, found)

    def _add(self, spot: Spot, text: str) -> None:
        if spot.every or text in spot.keys:
            return
        spot.keys.add(text)
        self.also(spot.topic, text)
        for down in spot.downs:
            if down.references is not None and down.references.unforeseeable:
                self._every(down)
            elif down.is_searched:
                self.stale.add(down.topic)
            elif down.edge is not None and down.edge.kind == "many":
                self._add(down, _below(spot, down, down.edge, text))

    def _every(self, spot: Spot) -> None:
        if spot.every:
            return
        spot.every = True
        self.stale.add(spot.topic)
        for down in spot.downs:
            if down.edge is not None and (down.edge.kind == "many" or down.references is None):
                self._every(down)

    def _all(self) -> None:
        if not self.everything:
            self.everything = True
            self.stale.update(self._topics)


def _texts(
    references: References, version: EntityVersion, router: Router, topic: str, items: Sequence[Any]
) -> Iterator[str]:
    for item in items:
        route = router.by_struct[topic].get(type(item))
        for fold in route.folds if route is not None else ():
            if fold.version is version:
                yield from references.texts(fold, item)


def _below(up: Spot, down: Spot, edge: Edge, text: str) -> str:
    """The record key of the children of a row, by its own."""
    names = up.version.model.record_key
    parts = dict(zip(names, key_parts(text, len(names)), strict=True))
    above = dict(zip(edge.target_columns, edge.source_columns, strict=True))
    return key_text([parts[above[name]] for name in down.version.model.record_key])


def _spots(view: ViewVersion) -> Iterator[Spot]:
    """The tree of a view, the root first."""
    found: dict[Path, Spot] = {}
    for path in sorted(view.model.paths, key=len):
        if not path:
            found[path] = Spot(view.sources[view.model.root])
        else:
            edge, up = path[-1], found[path[:-1]]
            spot = found[path] = Spot(view.sources[edge.target], up, edge)
            spot.references = _references(spot, edge, up)
            up.downs.append(spot)
        yield found[path]


def _references(spot: Spot, edge: Edge, up: Spot) -> References | None:
    if edge.kind == "one":
        of = dict(zip(edge.target_columns, edge.source_columns, strict=True))
        return References(up.version, [of[name] for name in spot.version.model.record_key])
    if edge.kind == "many" and not spot.is_direct:
        of = dict(zip(edge.source_columns, edge.target_columns, strict=True))
        return References(spot.version, [of[name] for name in up.version.model.record_key])
    return None
